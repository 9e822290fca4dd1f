"""A store in, its TensorBoard event files in a local folder out: `python -m hqclip.sync --store URI --to FOLDER`.

TensorBoard itself, given a bucket, looks through all checkpoints for event files and asks for each of them at every
reload. This lists two prefixes, asks for files that may have grown, and fetches what was added, which is enough: they
only ever grow. Nothing is deleted, neither there nor here.
"""

from __future__ import annotations

import json
import re
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hqclip import log
from hqclip.errors import HQClipError, NotFoundError, UnavailableError
from hqclip.flags import read_flags
from hqclip.settings import Settings, setting
from hqclip.store import Store, open_store
from hqclip.store.local import faults_at

PREFIXES = ("runs/", "annotations/")
EVENTS = re.compile(r"(runs/.+|annotations/[^/]+/work/[^/]+)/tensorboard/[^/]*tfevents[^/]*")
REST = 0.1  # of the time since a file has grown passes before the next look at it
REST_S = 3600.0  # at most
DONE = ".synced"  # its time is that of the last turn: for probes


@dataclass(frozen=True, kw_only=True)
class SyncConfig(Settings):
    """Bring TensorBoard's event files from a store to a folder, again and again until SIGTERM."""

    store: str = setting("store with runs and annotations, e.g. gs://bucket/hqclip")
    to: str = setting("local folder that TensorBoard reads")
    every_s: float = setting("seconds between two turns", 120.0, above=0)


@dataclass
class Copy:
    """What is known of one file: its generation that is here, when it was seen to grow, when to look again."""

    generation: str = ""
    grown: float = 0.0
    due: float = 0.0


class Mirror:
    """The event files of `store` below `folder`, under the same names."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._copies: dict[str, Copy] = {}

    def turn(self, now: float) -> int:
        """Bring what is due at `now` (in seconds) up to date; how many files have grown. Raises what the store does."""
        keys = [key for prefix in PREFIXES for key in self._store.list(prefix) if EVENTS.fullmatch(key)]
        grown = 0
        for key in keys:
            copy = self._copies.setdefault(key, Copy(grown=now))
            if now < copy.due:
                continue
            try:
                grown += self._fetch(key, copy, now)
            except NotFoundError:
                continue  # deleted or replaced under our eyes: the next turn sees what is there
            copy.due = now + min(REST * (now - copy.grown), REST_S)
        with faults_at(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / DONE).touch()
        return grown

    def _fetch(self, key: str, copy: Copy, now: float) -> bool:
        """Append what is new, so that a reader who has the file open sees it; whether there was anything."""
        info = self._store.stat(key)
        if info is None or info.generation == copy.generation:
            return False
        path = self._folder / key
        with faults_at(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(self._store.read(key, start=file.tell()))
        copy.generation, copy.grown = info.generation, now
        return True


def keep_in_step(mirror: Mirror, every_s: float, stop: threading.Event) -> None:
    """Turn after turn until `stop`. A store that does not answer is asked again; other faults are raised."""
    while not stop.is_set():
        try:
            log.info("sync", f"files that have grown: {mirror.turn(time.monotonic())}")
        except UnavailableError as error:
            log.warning("sync", str(error))
        stop.wait(every_s)


def main(argv: Sequence[str] | None = None) -> int:
    """Go on until SIGTERM; the exit code."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())  # the first process of a container has no handler of its own
    try:
        (given,), dry_run = read_flags("sync", [SyncConfig], sys.argv[1:] if argv is None else argv)
        settings = SyncConfig.from_mapping(given)
        if dry_run:
            print(json.dumps(settings.to_mapping(), indent=1))
            return 0
        keep_in_step(Mirror(open_store(settings.store), Path(settings.to)), settings.every_s, stop)
    except HQClipError as error:
        return log.fault("sync", error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
