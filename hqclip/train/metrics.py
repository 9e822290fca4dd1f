"""What a run measures, kept as `metrics.jsonl` and TensorBoard events; a resumed run continues the same files."""

from __future__ import annotations

import json
from types import TracebackType

from hqclip.store import Store
from hqclip.store.documents import read_curve
from hqclip.tensorboard import SummaryWriter


class MetricsLog:
    """Means over the steps since the last line. Lines go to the store with every checkpoint, never per step."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._folder = f"runs/{run}"
        self._lines: list[dict[str, float]] = []
        self._pending: list[dict[str, float]] = []
        self._step = 0
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

    def resume(self, step: int) -> None:
        """Take up the lines of the steps before `step`; later ones were lost with the process and come again."""
        key = f"{self._folder}/metrics.jsonl"
        if step and self._store.exists(key):
            self._lines = [line for line in read_curve(self._store, key, "train") if line["step"] <= step]

    def add(self, step: int, values: dict[str, float]) -> None:
        """What one step measured."""
        self._pending.append(values)
        self._step = step + 1

    def flush(self) -> None:
        """Close a line over the steps added since the last."""
        if not self._pending:
            return
        means = {name: sum(v[name] for v in self._pending) / len(self._pending) for name in self._pending[0]}
        self._lines.append({"step": self._step, **means})
        self._writer.add(self._step, {f"train/{name}": value for name, value in means.items()})
        self._pending.clear()

    def upload(self) -> None:
        """Bring lines and events to the store."""
        data = "".join(json.dumps(line) + "\n" for line in self._lines)
        self._store.write(f"{self._folder}/metrics.jsonl", data.encode(), create_only=False)
        self._writer.upload()
