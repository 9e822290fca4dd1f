"""What goes wrong between a client and a bucket, scripted by tests: the same words for Google's service and for S3."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

KINDS = Literal["refuse", "lose", "cut", "damage", "ignore", "keep", "delay", "pass"]


@dataclass
class Fault:
    """What goes wrong with the next `times` requests whose `METHOD path` contains all `words`.

    refuse: answer `value`, a status such as 503 or "503 SlowDown", and do nothing. lose: do it, but the client does
    not hear so. cut: close the connection after `value` bytes of the answer's body. damage: flip a bit of the data sent
    or received. ignore: what a server does that does not know the header `value`. keep: `value` bytes of a chunk of a
    resumable upload. delay: answer `value` ms late. pass: nothing. `then` runs before the answer leaves.
    """

    kind: KINDS
    words: list[str]
    value: Any
    times: int
    then: Callable[[], object] | None = None
    fired: int = 0


class Script:
    """Faults to come; `requests` are all so far, `connections` where they came from."""

    BUSY: Any = 503  # what is answered if a fault says no more

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.connections: set[tuple[str, int]] = set()
        self._faults: list[Fault] = []
        self._lock = threading.RLock()

    def fault(
        self, kind: KINDS, words: str, value: Any = None, times: int = 1, then: Callable[[], object] | None = None
    ) -> Fault:
        """Script one; see `Fault`."""
        self._faults.append(Fault(kind, words.split(), self.BUSY if value is None else value, times, then))
        return self._faults[-1]

    def unfired(self) -> list[Fault]:
        """Faults that did not happen as often as the test said: it does not test what it claims to."""
        return [fault for fault in self._faults if fault.fired < fault.times]

    def next_fault(self, request: str) -> Fault | None:
        """What goes wrong with this request, which is counted."""
        with self._lock:
            self.requests.append(request)
            for fault in self._faults:
                if fault.fired < fault.times and all(word in request for word in fault.words):
                    fault.fired += 1
                    return fault
        return None
