"""What a run measures, kept as `metrics.jsonl` and TensorBoard events; a resumed run continues the same files."""

from __future__ import annotations

import json
from types import TracebackType

from hqclip.store import Store
from hqclip.store.documents import read_curve
from hqclip.tensorboard import SummaryWriter
from hqclip.train.work import Work


class MetricsLog:
    """Means over the steps since the last line. Lines go to the store with every checkpoint, never per step."""

    def __init__(self, store: Store, run: str, work: Work) -> None:
        self._store, self.work = store, work
        self._folder = f"runs/{run}"
        self._lines: list[dict[str, float]] = []
        self._pending: list[dict[str, float]] = []
        self._skipped = 0  # since the last line
        self.unsaved_since: int | None = None  # the step of the last checkpoint in the store, if newer ones are missing
        self._writer = SummaryWriter(store, f"{self._folder}/tensorboard")

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    @property
    def last(self) -> dict[str, float]:
        """The newest line."""
        return self._lines[-1] if self._lines else {}

    @property
    def skipped_steps(self) -> int:
        """How many steps were left out so far."""
        return self._skipped + sum(int(line.get("skipped_steps", 0)) for line in self._lines)

    def resume(self, step: int) -> None:
        """Take up the lines of the steps before `step`; later ones were lost with the process and come again."""
        key = f"{self._folder}/metrics.jsonl"
        lines = self._lines
        if step and not lines and self._store.exists(key):
            lines = read_curve(self._store, key, "train")
        self._lines = [line for line in lines if line["step"] <= step]
        self._pending.clear()
        self._skipped = 0

    def add(self, step: int, values: dict[str, float]) -> None:
        """What one step measured."""
        self._pending.append(values)
        self.work.step = step + 1

    def skip(self, step: int) -> None:
        """A step measured nothing that is a number."""
        self._skipped += 1
        self.work.step = step + 1

    def flush(self) -> None:
        """Close a line over the steps added since the last; steps that were skipped alone make none."""
        if not self._pending:
            return
        line = {name: sum(v[name] for v in self._pending) / len(self._pending) for name in self._pending[0]}
        if self._skipped:
            line["skipped_steps"] = self._skipped
        if self.unsaved_since is not None:
            line["unsaved_steps"] = self.work.step - self.unsaved_since
        self._lines.append({"step": self.work.step, **line})
        curves = {f"train/{name}": value for name, value in line.items()}
        curves |= {f"system/{name}": value for name, value in self.work.curves().items()}
        self._writer.add(self.work.step, curves)
        self._pending.clear()
        self._skipped = 0

    def upload(self) -> None:
        """Bring lines, events and what was worked to the store."""
        data = "".join(json.dumps(line) + "\n" for line in self._lines)
        self._store.write(f"{self._folder}/metrics.jsonl", data.encode(), create_only=False)
        self._writer.upload()
        self.work.write()
