"""One run at a time on a store: a second one is told who works there, and comes another time.

Only to save work: what two runs do twice has the same digests. The lock is renewed while a task works, and counts no
more once it has not been for `STALE_S`; clocks of pods agree well enough for an hour.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hqclip.errors import ConflictError, HQClipError
from hqclip.store import ObjectInfo, Store

KEY = "cycles/lock.json"
STALE_S = 3600.0
BEAT_S = 60.0


def take(store: Store, owner: str, cycle: int) -> str:
    """Hold the store for `owner`; who holds it already, as a reason to come later, or an empty text."""
    for _ in range(3):
        seen, held = _read(store)
        if held and held["owner"] not in ("", owner):
            age = time.time() - float(held["time"])
            if age < STALE_S:
                return f"cycle {held['cycle']} is being refined by run {held['owner']} (seen {age:.0f} s ago)"
        try:
            store.swap(KEY, _content(owner, cycle), expected=seen)
            return ""
        except ConflictError:
            continue  # somebody was quicker: look again
    return "another run has just begun"


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
    end = threading.Event()

    def beat() -> None:
        while True:
            try:
                seen, lock = _read(store)
                if seen is not None and lock and lock["owner"] == owner:
                    store.swap(KEY, _content(owner, int(lock["cycle"])), expected=seen)
            except HQClipError:
                pass  # the next beat may reach it; if none does, the lock grows old, as it should
            if end.wait(BEAT_S):
                return

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        end.set()


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
