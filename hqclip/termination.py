"""SIGTERM as a question asked between two steps, or as what ends one task; never as an interruption just anywhere.

What cannot wait for the next step is done at once, from another thread.
"""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from hqclip.errors import TerminatedError

_LEFT = threading.Event()  # SIGTERM came while nobody but the thread would do anything about it


@contextmanager
def told_at_once(then: Callable[[], object], within_s: float = 5.0) -> Iterator[None]:
    """While entered, SIGTERM calls `then` in a thread, at once, even while the main thread computes.

    What else is done about SIGTERM is done as well. Where nothing is, the process ends after that, or after `within_s`
    seconds, with exit code 143. Outside the main thread nothing is caught, as Python asks.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    thread = threading.Thread(target=_watch, args=(reading, then, within_s), name="sigterm", daemon=True)
    thread.start()
    _forget_in_children()
    handled = signal.getsignal(signal.SIGTERM)
    _LEFT.clear()
    if handled is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _left_to_thread)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, handled)
        os.write(writing, b"\0")
        thread.join(within_s)
        os.close(writing)


def _watch(reading: int, then: Callable[[], object], within_s: float) -> None:
    """Read the numbers of signals, which Python writes from the signal handler itself; 0 is the end."""
    with open(reading, "rb", buffering=0) as signals:
        came = False
        while number := ord(signals.read(1) or b"\0"):
            if number == signal.SIGTERM and not came:
                came = True
                is_left = signal.getsignal(signal.SIGTERM) is _left_to_thread
                saying = threading.Thread(target=then, name="sigterm-told", daemon=True)
                saying.start()
                saying.join(within_s)
                if is_left or _LEFT.is_set():
                    os._exit(TerminatedError.exit_code)


def _left_to_thread(_signal: int, _frame: FrameType | None) -> None:
    """The thread ends the process, once it has told; whoever asks for signals from now on has missed this one."""
    _LEFT.set()


@functools.cache
def _forget_in_children() -> None:
    """A process that is forked has the pipe and the handler, but not the thread: its signals are its own.

    One that comes before it has forgotten them waits, or it would be told by the pipe as the parent's.
    """
    held = threading.local()

    def hold() -> None:
        held.before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, held.before)

    def forget() -> None:
        signal.set_wakeup_fd(-1)
        if signal.getsignal(signal.SIGTERM) is _left_to_thread:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=forget)


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
            if told != -1:
                os.write(told, bytes([signal.SIGTERM]))
            stop()

    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    loop = asyncio.get_running_loop()
    told = signal.set_wakeup_fd(-1)  # of `told_at_once`; the loop has one of its own
    loop.add_signal_handler(signal.SIGTERM, handle)
    try:
        yield came.is_set
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.set_wakeup_fd(told, warn_on_full_buffer=False)
