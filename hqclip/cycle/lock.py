"""One run at a time on a store: a second one is told who works there, and comes another time.

Only to save work: what two runs do twice has the same digests. The lock is renewed while a task works, and counts no
more once it has not been for `STALE_S`; clocks of pods agree well enough for that. A run on this machine says so in its
name (`LOCAL_RUN`), and its lock ends with its process.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hqclip.errors import ConflictError, HQClipError
from hqclip.store import ObjectInfo, Store
from hqclip.store.lease import Heartbeat

KEY = "cycles/lock.json"
LOCAL_RUN = "HQCLIP_LOCAL_RUN"  # environment variable: local:{host}:{pid} of the runner of all tasks
STALE_S = 1800.0
BEAT_S = 60.0


def take(store: Store, owner: str, cycle: int) -> str:
    """Hold the store for `owner`; who holds it already, as a reason to come later, or an empty text."""
    for _ in range(3):
        seen, held = _read(store)
        if held and held["owner"] not in ("", owner):
            age = time.time() - float(held["time"])
            if age < STALE_S and not _has_died(held["owner"]):
                return f"cycle {held['cycle']} is being refined by run {held['owner']} (seen {age:.0f} s ago)"
        try:
            store.swap(KEY, _content(owner, cycle), expected=seen)
            return ""
        except ConflictError:
            continue  # somebody was quicker: look again
    return "another run has just begun"


def local_name() -> str:
    """What a runner on this machine calls its runs."""
    return f"local:{socket.gethostname()}:{os.getpid()}"


def owner_of(given: str) -> str:
    """The owner that a task works for: the local runner, if there is one, or else who is given."""
    return os.environ.get(LOCAL_RUN, given)


def _has_died(owner: str) -> bool:
    """Whether this is a run of this machine whose process is gone."""
    kind, _, place = owner.partition(":")
    host, _, pid = place.rpartition(":")
    return kind == "local" and host == socket.gethostname() and pid.isdigit() and not Path(f"/proc/{pid}").exists()


def release(store: Store, owner: str) -> None:
    """Let go, if it is ours; nobody is kept waiting by a lock that was lost."""
    seen, held = _read(store)
    if seen is not None and held and held["owner"] == owner:
        try:
            store.swap(KEY, _content("", int(held["cycle"])), expected=seen)
        except ConflictError:
            return


@contextmanager
def held(store: Store, owner: str) -> Iterator[None]:
    """While entered, the lock of `owner` does not grow old; without an owner there is none."""
    if not owner:
        yield
        return

    def beat() -> None:
        try:
            seen, lock = _read(store)
            if seen is not None and lock and lock["owner"] == owner:
                store.swap(KEY, _content(owner, int(lock["cycle"])), expected=seen)
        except HQClipError:
            pass  # the next beat may reach it; if none does, the lock grows old, as it should

    with Heartbeat(beat, BEAT_S):
        yield


def _read(store: Store) -> tuple[ObjectInfo | None, dict[str, Any]]:
    seen = store.stat(KEY)
    if seen is None:
        return None, {}
    try:
        return seen, dict(json.loads(store.read(KEY)))
    except (ValueError, TypeError):
        return seen, {}


def _content(owner: str, cycle: int) -> bytes:
    return json.dumps({"owner": owner, "cycle": cycle, "time": time.time()}).encode()
