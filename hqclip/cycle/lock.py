"""One run at a time on a store: a second one is told who works there, and comes another time.

Only to save work: what two runs do twice has the same digests. The lock is renewed while a task works, and counts no
more once it has not been for `STALE_S`: a task may wait that long for its machine. How old it is the store alone tells,
by its own clock on both sides: that of the lock, and that of an object that whoever looks writes now. The time that
stands in the lock is for people. A run on this machine says so in its name (`LOCAL_RUN`), and its lock ends with its
process.
"""

from __future__ import annotations

import json
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hqclip import log
from hqclip.errors import ConflictError, DataError, HQClipError, NotFoundError
from hqclip.process_watch import started_at
from hqclip.store import ObjectInfo, Store
from hqclip.store.documents import read_json
from hqclip.store.lease import Heartbeat

KEY = "cycles/lock.json"
LOOK = "cycles/lock.look"  # written by whoever looks at the lock of another run
LOCAL_RUN = "HQCLIP_LOCAL_RUN"  # environment variable: local:{host}:{pid} of the runner of all tasks
STALE_S = 1800.0
BEAT_S = 60.0


def take(store: Store, owner: str, cycle: int) -> str:
    """Hold the store for `owner`; who holds it already, as a reason to come later, or an empty text."""
    for _ in range(3):
        seen, held = _read(store)
        if held and held["owner"] not in ("", owner) and not _has_died(held["owner"]):
            age = _age(store, owner)
            if abs(age) < STALE_S:  # far in the future: the clock of the store was put back, and nothing is known
                seen_s = max(0.0, age)
                return f"cycle {held['cycle']} is being refined by run {held['owner']} (seen {seen_s:.0f} s ago)"
        try:
            store.swap(KEY, _content(owner, cycle), expected=seen)
            return ""
        except ConflictError:
            continue  # somebody was quicker: look again
    return "another run has just begun"


def _age(store: Store, owner: str) -> float:
    """Seconds since the lock was written last, by the clock of the store; infinite if it is gone."""
    renewed = store.changed_at(KEY)
    store.write(LOOK, _content(owner, 0), create_only=False)
    looked = store.changed_at(LOOK)
    return math.inf if renewed is None or looked is None else looked - renewed


def local_name() -> str:
    """What a runner on this machine calls its runs."""
    return f"local:{socket.gethostname()}:{os.getpid()}"


def owner_of(given: str) -> str:
    """The owner that a task works for: the local runner, if there is one, or else who is given."""
    return os.environ.get(LOCAL_RUN, given)


def runner_pid(owner: str) -> int:
    """The process that runs all tasks of a run on this machine; 0 for other runs."""
    kind, _, place = owner.partition(":")
    host, _, pid = place.rpartition(":")
    return int(pid) if kind == "local" and host == socket.gethostname() and pid.isdecimal() else 0


def _has_died(owner: str) -> bool:
    """Whether this is a run of this machine whose process is gone."""
    pid = runner_pid(owner)
    return pid > 0 and not started_at(pid)


def release(store: Store, owner: str) -> None:
    """Let go, if it is ours; nobody is kept waiting by a lock that was lost or damaged."""
    seen, held = _read(store)
    if seen is not None and held and held["owner"] == owner:
        try:
            store.swap(KEY, _content("", held["cycle"]), expected=seen)
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
                store.swap(KEY, _content(owner, lock["cycle"]), expected=seen)
        except HQClipError:
            pass  # the next beat may reach it; if none does, the lock grows old, as it should

    with Heartbeat(beat, BEAT_S):
        yield


def _read(store: Store) -> tuple[ObjectInfo | None, dict[str, Any]]:
    """What is there now, and what it says; a lock that does not say owner and cycle is none."""
    seen = store.stat(KEY)
    if seen is None:
        return None, {}
    try:
        held = read_json(store, KEY, "it counts as none")
        if isinstance(held.get("owner"), str) and type(held.get("cycle")) is int:
            return seen, held
        raise DataError(f"{store.uri}/{KEY} is incomplete: no owner, or no number of a cycle; it counts as none")
    except NotFoundError:
        return None, {}
    except DataError as error:
        log.warning("lock", str(error))
        return seen, {}


def _content(owner: str, cycle: int) -> bytes:
    return json.dumps({"owner": owner, "cycle": cycle, "time": time.time()}).encode()
