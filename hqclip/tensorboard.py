"""Curves for TensorBoard: scalars in, event files in the store out."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from hqclip.errors import MissingSoftwareError
from hqclip.store import Store


class SummaryWriter:
    """Events collect in a local file; `upload` brings it to `folder` in the store, as often as one likes."""

    def __init__(self, store: Store, folder: str) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ModuleNotFoundError as error:
            raise MissingSoftwareError(f"{error}; install hqclip with its extra `annotate` or `train`") from error
        self._store, self._folder = store, folder
        self._local = Path(tempfile.mkdtemp(prefix="hqclip-tensorboard-"))
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
        shutil.rmtree(self._local, ignore_errors=True)
