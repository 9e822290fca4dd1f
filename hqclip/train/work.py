"""What each process of a run did in, what the run took out: time, GPUs, how busy they were, what restarts lost.

Rank 0 writes `runs/{run}/work/{started}.json` with every checkpoint, and about once a minute, in the background.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hqclip import log
from hqclip.errors import HQClipError
from hqclip.gpu import GpuMeter
from hqclip.store import Store
from hqclip.store.documents import number_in, read_json_or_warn

EVERY_S = 60.0
T = TypeVar("T")


@dataclass
class Work:
    """One process of a run, from `start` (of `time.monotonic`); what it says is what the newest step knows."""

    store: Store
    run: str
    start: float
    batch_size: int
    num_gpus: int = 0
    meter: GpuMeter | None = None
    lost_steps: int = 0
    waited_s: float = 0.0
    step: int = 0  # how many are done, in this process and before
    _first: int = 0
    _writer: threading.Thread | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._started = time.time() - (time.monotonic() - self.start)
        self._begun = self._written = time.monotonic()
        self._told = (self._begun, 0, 0.0)
        self._begins_now = True

    def begins(self, step: int) -> None:
        """The steps go on at `step`: for the first time, or again from there, and what was done since is lost."""
        now = time.monotonic()
        if self._begins_now:
            self._begun, self._first, self._begins_now = now, step, False
        else:
            self.lost_steps += max(0, self.step - step)
        self.step = step
        self._told = (now, step, self.waited_s)

    def waiting_for(self, batches: Iterable[T]) -> Iterator[T]:
        """The same, while the time until each comes is counted."""
        asked = time.monotonic()
        for batch in batches:
            self.waited_s += time.monotonic() - asked
            yield batch
            asked = time.monotonic()

    def curves(self) -> dict[str, float]:
        """What the machine did since the last call."""
        now, (then, before, waited) = time.monotonic(), self._told
        seconds = max(now - then, 1e-9)
        self._told = (now, self.step, self.waited_s)
        curves = {
            "samples_per_s": (self.step - before) * self.batch_size / seconds,
            "waited_for_data_share": min((self.waited_s - waited) / seconds, 1.0),
            **(self.meter.since_last() if self.meter else {}),
        }
        if now - self._written >= EVERY_S and not (self._writer and self._writer.is_alive()):
            self._written = now
            self._writer = threading.Thread(target=self._try, name="work", daemon=True)
            self._writer.start()
        return curves

    def write(self) -> None:
        """Bring it to the store."""
        key = f"{_folder(self.run)}{round(self._started * 1000)}.json"
        self.store.write(key, json.dumps(self.values(), indent=1).encode(), create_only=False)

    def values(self) -> dict[str, Any]:
        """Everything, as it stands in the store."""
        seconds = time.monotonic() - self.start
        return {
            "started": round(self._started),
            "first": self._first,
            "step": self.step,
            "lost_steps": self.lost_steps,
            "seconds": seconds,
            "setup_seconds": self._begun - self.start,
            "waited_for_data_seconds": self.waited_s,
            "num_gpus": self.num_gpus,
            "gpu_seconds": seconds * self.num_gpus,
            "gpu_busy_share": self.meter.busy_share() if self.meter else None,
            "device": self.meter.device if self.meter else "",
        }

    def _try(self) -> None:
        try:
            self.write()
        except HQClipError as error:
            log.debug("train", f"{self.run}: {error}; the next checkpoint says what was done")


def total_work(store: Store, run: str, samples_seen: int) -> dict[str, Any]:
    """What all processes of a run took together; of GPUs nothing where none worked.

    `lost_seconds` are those in which a process did steps that another had to do again, and in which all but the first
    got ready. A damaged log is left out with a warning.
    """
    keys = sorted(store.list(_folder(run)))
    logs = [one for key in keys if (one := read_json_or_warn(store, key, "train")) is not None]
    gpu_seconds = _sum(logs, "gpu_seconds")
    work: dict[str, Any] = {
        "seconds": _sum(logs, "seconds"),
        "restarts": max(len(logs) - 1, 0),
        "lost_seconds": _lost_s(logs),
        "waited_for_data_seconds": _sum(logs, "waited_for_data_seconds"),
    }
    if not gpu_seconds:
        return work
    work |= {
        "num_gpus": max(int(number_in(one, "num_gpus")) for one in logs),
        "devices": sorted({str(one["device"]) for one in logs if one.get("device")}),
        "gpu_seconds": gpu_seconds,
        "samples_per_gpu_hour": samples_seen / gpu_seconds * 3600,
    }
    told = [one for one in logs if one.get("gpu_busy_share") is not None]
    if told:
        busy = sum(number_in(one, "gpu_busy_share") * number_in(one, "gpu_seconds") for one in told)
        work["gpu_busy_share"] = busy / max(_sum(told, "gpu_seconds"), 1e-9)
    return work


def _lost_s(logs: Sequence[Mapping[str, Any]]) -> float:
    lost = 0.0
    for number, one in enumerate(logs):
        first, step, again = (number_in(one, name) for name in ("first", "step", "lost_steps"))
        seconds, setup = number_in(one, "seconds"), number_in(one, "setup_seconds")
        done = step - first + again
        if number + 1 < len(logs):
            again += max(0.0, step - number_in(logs[number + 1], "first"))
        lost += again / done * (seconds - setup) if done > 0 else 0.0
        lost += setup if number else 0.0
    return lost


def _sum(logs: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(number_in(one, name) for one in logs)


def _folder(run: str) -> str:
    return f"runs/{run}/work/"
