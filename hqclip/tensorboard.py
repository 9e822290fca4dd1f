"""Curves for TensorBoard: scalars in, event files in the store out."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from hqclip.errors import MissingSoftwareError
from hqclip.store import Store
from hqclip.store.leftovers import scratch_folder


class SummaryWriter:
    """Events collect in a local file; `upload` brings it to `folder` in the store, as often as one likes."""

    def __init__(self, store: Store, folder: str) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError as error:
            raise MissingSoftwareError(f"{error}; install hqclip with its extra `annotate` or `train`") from error
        self._store, self._folder = store, folder
        self._scratch = ExitStack()
        self._local = self._scratch.enter_context(scratch_folder())
        self._writer: Any = EventFileWriter(str(self._local))

    def add(self, step: int, values: dict[str, float]) -> None:
        """One point on each curve."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        self._writer.add_event(Event(step=step, wall_time=time.time(), summary=summary))

    def upload(self) -> None:
        """Replace the file in the store by all that was added so far."""
        self._writer.flush()
        for path in self._local.iterdir():
            self._store.write(f"{self._folder}/{path.name}", path.read_bytes(), create_only=False)  # it may grow

    def close(self) -> None:
        """Give the local file back."""
        self._writer.close()
        self._scratch.close()
