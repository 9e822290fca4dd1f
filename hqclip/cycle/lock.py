"""One run at a time on a store: a second one is told who works there, and comes another time.

Only to save work: what two runs do twice has the same digests. A lock counts no more once its run is known to be over:

- at once if the run ended on this machine (it says so in its name, `LOCAL_RUN`), or if Kubernetes says so; while
  Kubernetes says that it goes on, the lock counts however old it is, as a task may wait long for its machine;
- where nobody can be asked, `ENDING_S` after a task of it was told to end, unless another one has begun meanwhile,
  and `STALE_S` after the last sign of life: tasks renew the lock while they work.

`hqclip gc` takes the lock while it deletes, so that nothing begins meanwhile: whoever comes waits until it is through.

How old something is the store alone tells, by its own clock on both sides: that of the lock, and that of an object that
whoever looks writes now. The time that stands in the lock is for people.
"""

from __future__ import annotations

import json
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hqclip import log
from hqclip.cycle.run_state import OVER, RUNNING, state_of
from hqclip.errors import ConflictError, DataError, HQClipError, NotFoundError
from hqclip.process_watch import started_at
from hqclip.store import ObjectInfo, Store
from hqclip.store.documents import read_json
from hqclip.store.lease import Heartbeat

KEY = "cycles/lock.json"
LOOK = "cycles/lock.look"  # written by whoever looks at the lock of another run
ENDING = "cycles/lock.ending"  # written by a task that is told to end; what the lock says later takes it back
GC = "gc:"  # what the owner begins with who deletes; the rest is as that of a local run
LOCAL_RUN = "HQCLIP_LOCAL_RUN"  # environment variable: local:{host}:{pid} of the runner of all tasks
STALE_S = 1800.0
ENDING_S = 100.0  # with a look each minute of a schedule, free within two minutes
BEAT_S = 60.0
WAIT_S = 2.0  # between two looks of who waits for `hqclip gc`


@dataclass(frozen=True)
class Busy:
    """The run that holds the store, and a sentence that says so."""

    owner: str
    reason: str


def take(store: Store, owner: str, cycle: int) -> Busy | None:
    """Hold the store for `owner`; who holds it already, or None if it is ours now. Waits while `hqclip gc` deletes."""
    attempts = 0
    while attempts < 3:
        seen, held = _read(store)
        if held and held["owner"] not in ("", owner) and (busy := _busy(store, owner, held)):
            if not _is_gc(busy.owner) or _is_gc(owner):
                return busy
            time.sleep(WAIT_S)
            continue
        try:
            store.swap(KEY, _content(owner, cycle), expected=seen)
            return None
        except ConflictError:
            attempts += 1  # somebody was quicker: look again
    return Busy("", "another run has just begun")


def wait_for_gc(store: Store, owner: str) -> None:
    """Come back when `hqclip gc` deletes nothing, which then knows of `owner` by what it wrote before."""
    while True:
        held = _said(store)
        if not held or not _is_gc(held["owner"]) or not (busy := _busy(store, owner, held)):
            return
        log.info("lock", f"waiting: {busy.reason}")
        time.sleep(WAIT_S)


def is_held_by(store: Store, owner: str) -> bool:
    """Whether the lock still says so."""
    return _said(store).get("owner") == owner


def store_time(store: Store, owner: str) -> float:
    """Now, by the clock of the store."""
    store.write(LOOK, _content(owner, 0), create_only=False)
    return store.changed_at(LOOK) or 0.0


def _busy(store: Store, owner: str, held: dict[str, Any]) -> Busy | None:
    """Whether the lock of another run counts."""
    known = state(held["owner"])
    if known == OVER:
        return None
    age, ending = _ages(store, owner, held["owner"])
    if known != RUNNING and (abs(age) >= STALE_S or ending >= ENDING_S):
        return None  # far in the future: the clock of the store was put back, and nothing is known
    told = f"seen {max(0.0, age):.0f} s ago" + (", and told to end" if ending >= 0 else "")
    if _is_gc(held["owner"]):
        return Busy(held["owner"], f"`hqclip gc` is deleting what nothing refers to ({told})")
    return Busy(held["owner"], f"cycle {held['cycle']} is being refined by run {held['owner']} ({told})")


def _ages(store: Store, owner: str, holder: str) -> tuple[float, float]:
    """Seconds since the lock was written last, and since a task of its holder was told to end, by the store's clock.

    The first is infinite if the lock is gone, the second -1 if no task was, or another one has renewed the lock since.
    """
    renewed, ending = store.changed_at(KEY), store.changed_at(ENDING)
    store.write(LOOK, _content(owner, 0), create_only=False)
    looked = store.changed_at(LOOK)
    if renewed is None or looked is None:
        return math.inf, -1.0
    if ending is None or ending < renewed or _ending_owner(store) != holder:
        return looked - renewed, -1.0
    return looked - renewed, looked - ending


def _ending_owner(store: Store) -> str:
    try:
        return str(read_json(store, ENDING, "it counts as none").get("owner", ""))
    except (NotFoundError, DataError):
        return ""


def mark_ending(store: Store, owner: str) -> None:
    """A task of this run is told to end: the lock is free in `ENDING_S`, unless the run goes on. One small write."""
    if owner:
        store.write(ENDING, _content(owner, 0), create_only=False)


def local_name() -> str:
    """What a runner on this machine calls its runs."""
    return f"local:{socket.gethostname()}:{os.getpid()}"


def holder(store: Store) -> str:
    """The run whose lock is there, whether it counts or not; empty for none."""
    return str(_said(store).get("owner", ""))


def gc_name() -> str:
    """What `hqclip gc` calls itself as it takes the lock."""
    return f"{GC}{socket.gethostname()}:{os.getpid()}"


def _is_gc(owner: str) -> bool:
    return owner.startswith(GC)


def owner_of(given: str) -> str:
    """The owner that a task works for: the local runner, if there is one, or else who is given."""
    return os.environ.get(LOCAL_RUN, given)


def runner_pid(owner: str) -> int:
    """The process that runs all tasks of a run on this machine; 0 for other runs."""
    return _pid_here(owner, "local")


def _pid_here(owner: str, *kinds: str) -> int:
    kind, _, place = owner.partition(":")
    host, _, pid = place.rpartition(":")
    return int(pid) if kind in kinds and host == socket.gethostname() and pid.isdecimal() else 0


def state(owner: str) -> str:
    """Whether a run is `OVER` or `RUNNING`, or "" if that is not known here."""
    pid = _pid_here(owner, "local", "gc")
    if pid:
        return "" if started_at(pid) else OVER
    return "" if _is_gc(owner) else state_of(owner)


def release(store: Store, owner: str) -> None:
    """Let go, if it is ours; nobody is kept waiting by a lock that was lost or damaged."""
    seen, held = _read(store)
    if seen is not None and held and held["owner"] == owner:
        try:
            store.swap(KEY, _content("", held["cycle"]), expected=seen)
        except ConflictError:
            return


@contextmanager
def held(store: Store, owner: str, is_over: threading.Event | None = None) -> Iterator[None]:
    """While entered, the lock of `owner` does not grow old; without an owner there is none.

    It is renewed at once, as another task may have been told to end just before, and no more once `is_over` is set.
    """
    if not owner:
        yield
        return
    over = is_over or threading.Event()

    def beat() -> None:
        try:
            seen, lock = _read(store)
            if seen is not None and lock and lock["owner"] == owner and not over.is_set():
                store.swap(KEY, _content(owner, lock["cycle"]), expected=seen)
                if over.is_set():
                    mark_ending(store, owner)  # both were written at the same time: this is what is true
        except HQClipError:
            pass  # the next beat may reach it; if none does, the lock grows old, as it should

    beat()
    with Heartbeat(beat, BEAT_S):
        yield


def _read(store: Store) -> tuple[ObjectInfo | None, dict[str, Any]]:
    """What is there now, and what it says: for whoever writes it next."""
    seen = store.stat(KEY)
    return seen, _said(store) if seen else {}


def _said(store: Store) -> dict[str, Any]:
    """What the lock says; empty without one, and one that does not say owner and cycle is none."""
    try:
        held = read_json(store, KEY, "it counts as none")
        if isinstance(held.get("owner"), str) and type(held.get("cycle")) is int:
            return held
        raise DataError(f"{store.uri}/{KEY} is incomplete: no owner, or no number of a cycle; it counts as none")
    except NotFoundError:
        return {}
    except DataError as error:
        log.warning("lock", str(error))
        return {}


def _content(owner: str, cycle: int) -> bytes:
    return json.dumps({"owner": owner, "cycle": cycle, "time": time.time()}).encode()
