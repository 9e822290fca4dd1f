"""A sign of life in a store: who holds something renews it, who looks sees whether it still changes.

Nobody's clock is compared with anybody else's: a lease is stale when it has not changed for a while on the watch of the
one who looks.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType


class Freshness:
    """When each lease was last seen to change. Safe to use from several threads.

    `clock` gives seconds from wherever it likes; a lease is stale `stale_s` after its last change was seen.
    """

    def __init__(self, stale_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._stale_s, self._clock = stale_s, clock
        self._changed: dict[str, tuple[str, float]] = {}

    def see(self, key: str, generation: str) -> None:
        """Note what is there now; an empty `generation` is no lease, which is stale after the same time."""
        if self._changed.get(key, ("never", 0.0))[0] != generation:
            self._changed[key] = generation, self._clock()

    def is_stale(self, key: str) -> bool:
        """Whether it has not changed for too long, as far as was seen."""
        return key in self._changed and self._clock() - self._changed[key][1] > self._stale_s


class Heartbeat:
    """While entered, calls `beat` every `interval_s` in a thread of its own; `beat` deals with what the store raises.

    `wait` sleeps for so many seconds, or less and says True once it is set.
    """

    def __init__(
        self, beat: Callable[[], object], interval_s: float, wait: Callable[[float], bool] | None = None
    ) -> None:
        self._beat, self._interval_s = beat, interval_s
        self._end = threading.Event()
        self._wait = wait or self._end.wait
        self._thread = threading.Thread(target=self._keep, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()

    def _keep(self) -> None:
        while not self._wait(self._interval_s) and not self._end.is_set():
            self._beat()


def new_owner() -> str:
    """Names this process among all of a store: `{host}-{pid}-{8 hexadecimal digits}`."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def content(owner: str, beat: int) -> bytes:
    """What is in a lease, for people; another `beat` makes it another content."""
    return json.dumps({"owner": owner, "beat": beat, "time": round(time.time())}).encode()
