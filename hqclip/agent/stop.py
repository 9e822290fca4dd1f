"""SIGTERM, SIGINT or a launcher that is gone: what makes an agent stop, whatever it is waiting for."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hqclip.errors import HQClipError, StoppedError, TerminatedError


class Halt(BaseException):
    """Breaks into the main thread. No fault of anything, so that no `except Exception` on the way holds it up."""


class Stop:
    """Only the first request counts. While `armed` it breaks into the main thread, afterwards it is only noted."""

    def __init__(self) -> None:
        self.armed = True
        self.asked_at = 0.0  # seconds since 1970; 0 until then
        self.breaks_in: Callable[[], BaseException] = Halt  # what is raised there
        self._gone = ""  # what became of the launcher

    @property
    def asked(self) -> bool:
        """Whether there was a request."""
        return self.asked_at > 0

    def listen(self) -> None:
        """From now on; in the main thread. A process 1 ignores the signals that it does not listen to."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Break in only after the block: it holds what must not end halfway."""
        self.armed = False
        yield
        self.armed = True
        if self.asked:
            raise Halt

    def lose_launcher(self, how: str) -> None:
        """Stop, from any thread, because nobody waits for the result any more; `how` that is known."""
        if not self.asked:
            self._gone = how
            os.kill(os.getpid(), signal.SIGTERM)

    def error(self) -> HQClipError:
        """Why it stopped, with the exit code for it."""
        if self._gone:
            return StoppedError(f"{self._gone}: nobody waits for this job; launch it again")
        return TerminatedError("asked to stop from outside; what was finished is kept")

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        if self.asked:
            return
        self.asked_at = time.time()
        if self.armed:
            raise self.breaks_in()
