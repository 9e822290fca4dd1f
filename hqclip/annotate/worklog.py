"""What one process did for an annotator: `progress.json` and TensorBoard curves while it works, its costs after.

Every process has a log of its own under `annotations/{annotator}/work/{owner}/`; the costs of an annotator are the
sum over them, work that was lost and done again included.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hqclip.annotate.engines.protocol import EngineInfo
from hqclip.annotate.supervisor import Counts
from hqclip.records import AnnotatedRow
from hqclip.store import Store
from hqclip.tensorboard import SummaryWriter

EVERY_S = 30.0
FULL = 0.9  # of the window in flight counts as a full window


@dataclass
class WorkLog:
    """Counts rows as they come and writes what they amount to, at most every `EVERY_S` seconds."""

    store: Store
    folder: str
    rows_to_do: int
    shards_to_do: int
    window: int
    counts: Counts
    busy_share: Callable[[], float | None] = lambda: None
    info: EngineInfo | None = None
    images: int = 0
    shards: int = 0
    statuses: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._start = self._written = time.monotonic()
        self._started_at = time.time()
        self._looks = self._full = 0
        self._writer = SummaryWriter(self.store, f"{self.folder}/tensorboard")

    def add(self, row: AnnotatedRow) -> None:
        """A row was made."""
        self.images += 1
        self.statuses[row.status] += 1

    def look(self) -> None:
        """Called about every second: is the window full?"""
        self._looks += 1
        self._full += self.counts.in_flight >= FULL * self.window

    def is_due(self) -> bool:
        """Whether it is time to write."""
        return time.monotonic() - self._written >= EVERY_S

    def write(self) -> None:
        """Bring the figures as they are now to the store."""
        self._written = time.monotonic()
        values = self.values()
        self.store.write(f"{self.folder}/progress.json", json.dumps(values, indent=1).encode(), create_only=False)
        curves = {f"annotate/{name}": float(values[name]) for name in CURVES if values[name] is not None}
        curves |= {f"annotate/faults/{name}": float(number) for name, number in self.statuses.items() if name != "ok"}
        self._writer.add(self.images, curves)
        self._writer.upload()

    def close(self) -> None:
        """Write for the last time."""
        self.write()
        self._writer.close()

    def values(self) -> dict[str, Any]:
        """Everything, as it stands in `progress.json`."""
        seconds = time.monotonic() - self._start
        rate = self.images / seconds if seconds else 0.0
        gpus = self.info.num_gpus if self.info else 0
        left = self.rows_to_do - self.images
        return {
            "images": self.images,
            "images_to_do": self.rows_to_do,
            "shards": self.shards,
            "shards_to_do": self.shards_to_do,
            "images_per_s": rate,
            "tokens_per_s": self.counts.output_tokens / seconds if seconds else 0.0,
            "seconds_to_finish": left / rate if rate else None,
            "in_flight": self.counts.in_flight,
            "window": self.window,
            "window_full_share": self._full / self._looks if self._looks else None,
            "gpu_busy_share": self.busy_share(),
            "statuses": dict(self.statuses),
            "requests": self.counts.requests,
            "prompt_tokens": self.counts.prompt_tokens,
            "cached_tokens": self.counts.cached_tokens,
            "output_tokens": self.counts.output_tokens,
            "restarts": self.counts.restarts,
            "deaths": self.counts.deaths[-20:],
            "seconds": seconds,
            "started": round(self._started_at),
            "num_gpus": gpus,
            "gpu_seconds": seconds * gpus,
            "engine": self.info.name if self.info else "",
            "engine_version": self.info.version if self.info else "",
            "device": self.info.device if self.info else "",
            "settings": dict(self.info.settings) if self.info else {},
        }


CURVES = (
    *("images_per_s", "tokens_per_s", "in_flight", "window_full_share", "gpu_busy_share", "restarts", "shards"),
    "cached_tokens",
)
