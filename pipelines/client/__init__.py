"""The verbs that speak to a Kubeflow, or about it: versions, runs, schedules, sweeps, costs."""
