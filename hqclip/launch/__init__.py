"""A stage on many machines: TorchX to processes here, a Volcano Job or a JobSet; followed, adopted, cancelled."""
