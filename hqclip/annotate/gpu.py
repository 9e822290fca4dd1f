"""How busy the GPUs of this machine are, as their driver tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

EVERY_S = 2.0


def busy_meter(num_gpus: int) -> Callable[[], float | None]:
    """How busy the GPUs were so far, if any are used."""
    return GpuMeter().busy_share if num_gpus else lambda: None


class GpuMeter:
    """Looks at every GPU now and then from a thread of its own that never keeps the process alive."""

    def __init__(self, nvml: Any = None) -> None:
        self._sum, self._looks = 0.0, 0
        self._nvml = nvml if nvml is not None else _nvml()
        if self._nvml is not None:
            threading.Thread(target=self._watch, daemon=True, name="hqclip-gpu").start()

    def busy_share(self) -> float | None:
        """Mean share of time, 0 to 1, in which the GPUs were at work; None where nobody can tell."""
        return self._sum / self._looks if self._looks else None

    def look(self) -> None:
        """One sample of every GPU."""
        handles = [self._nvml.nvmlDeviceGetHandleByIndex(n) for n in range(self._nvml.nvmlDeviceGetCount())]
        for handle in handles:
            self._sum += self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            self._looks += 1

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except self._nvml.NVMLError:
                return  # the driver went away; what was seen stays
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
