"""SIGTERM as a question asked between two steps, or as what ends one task; never as an interruption just anywhere."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any


class Termination:
    """While entered, SIGTERM only sets `asked`. Outside the main thread it never fires, as Python forbids it there."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> Termination:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True


@contextmanager
def stopped_by_sigterm(stop: Callable[[], object]) -> Iterator[Callable[[], bool]]:
    """Within the block, in an event loop, the first SIGTERM calls `stop`; the value tells whether it came.

    Outside the main thread nothing is caught, as Python asks.
    """
    came = threading.Event()

    def handle() -> None:
        if not came.is_set():
            came.set()
            stop()

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, handle)
    try:
        yield came.is_set
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
