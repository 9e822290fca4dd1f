"""How busy GPUs are, as their driver tells. Without a GPU, or without its driver, nothing runs and nothing is known."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

EVERY_S = 2.0
GB = 1e9


def meter_of(device: torch.device, num_gpus: int = 1) -> GpuMeter | None:
    """Watches the GPU `device`, or the first `num_gpus` that this process sees; None on a CPU."""
    if device.type != "cuda":
        return None
    import torch

    indices = range(num_gpus) if num_gpus > 1 else [device]
    uuids = [f"GPU-{torch.cuda.get_device_properties(one).uuid}" for one in indices]
    return GpuMeter(uuids=uuids, device=torch.cuda.get_device_name(device))


def gpu_work(meter: GpuMeter | None, seconds: float, samples: int, num_gpus: int = 1) -> dict[str, Any]:
    """What a stage took of GPUs such as those of `meter` for so many samples, as results have it; nothing without."""
    if meter is None:
        return {}
    busy = meter.busy_share()
    work = {
        "seconds": seconds,
        "num_gpus": num_gpus,
        "devices": [meter.device],
        "gpu_seconds": seconds * num_gpus,
        "samples_per_gpu_hour": samples / (seconds * num_gpus) * 3600,
        **({"gpu_busy_share": busy} if busy is not None else {}),
    }
    return {"work": work}


def busy_meter(num_gpus: int) -> Callable[[], float | None]:
    """How busy the GPUs of this machine were so far, if any are used."""
    return GpuMeter().busy_share if num_gpus else lambda: None


class GpuMeter:
    """Looks at GPUs now and then from a thread of its own that never keeps the process alive.

    Looks at those with these `uuids`, which are of the kind `device`, and at all of the machine without any.
    """

    def __init__(self, nvml: Any = None, *, uuids: Sequence[str] = (), device: str = "") -> None:
        self.device = device
        self._sum, self._looks = 0.0, 0
        self._told = (0.0, 0)  # what `since_last` has told of
        self._memory_bytes = 0.0
        self._uuids = uuids
        self._nvml = nvml if nvml is not None else _nvml()
        if self._nvml is not None:
            threading.Thread(target=self._watch, daemon=True, name="hqclip-gpu").start()

    def busy_share(self) -> float | None:
        """Mean share of time, 0 to 1, in which the GPUs were at work; None where nobody can tell."""
        return self._sum / self._looks if self._looks else None

    def since_last(self) -> dict[str, float]:
        """What was seen since the last call: `gpu_busy_share`, and the `gpu_memory_gb` of one GPU now."""
        total, looks = self._sum, self._looks
        before, counted = self._told
        if looks == counted:
            return {}
        self._told = (total, looks)
        return {"gpu_busy_share": (total - before) / (looks - counted), "gpu_memory_gb": self._memory_bytes / GB}

    def look(self) -> None:
        """One sample of every GPU."""
        handles = self._handles()
        self._memory_bytes = sum(self._nvml.nvmlDeviceGetMemoryInfo(handle).used for handle in handles) / len(handles)
        for handle in handles:
            self._sum += self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            self._looks += 1

    def _handles(self) -> list[Any]:
        if self._uuids:
            return [self._nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in self._uuids]
        return [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(self._nvml.nvmlDeviceGetCount())]

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except self._nvml.NVMLError:
                return  # the driver went away, or does not tell of such a device; what was seen stays
            time.sleep(EVERY_S)


def _nvml() -> Any:
    """The driver's library, if there is one."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml
