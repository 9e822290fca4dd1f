"""Notice that the process for which this one works is gone, however it went: nobody would end this one any more."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

EVERY_S = 1.0


def when_parent_is_gone(parent: str | None, then: Callable[[], None]) -> None:
    """Call `then` from a thread once this process is no longer a child of `parent`; never if that is not given."""
    if parent:
        _watch(lambda: os.getppid() == int(parent), then)


def when_gone(pid: int, then: Callable[[], None]) -> None:
    """Call `then` from a thread once the process of that number on this machine has ended, whoever's child this is."""
    started = started_at(pid)
    _watch(lambda: bool(started) and started_at(pid) == started, then)


def end_this_process(grace_s: float) -> None:
    """SIGTERM first, so that what is finished is kept; the end by force after `grace_s` seconds (0: never)."""
    os.kill(os.getpid(), signal.SIGTERM)
    if grace_s:
        time.sleep(grace_s)
        os._exit(143)


def started_at(pid: int) -> str:
    """When it began, in a unit of the kernel's, which tells it from a later one of the same number; "" if it ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state in "ZX" else fields[18]


def _watch(is_there: Callable[[], bool], then: Callable[[], None]) -> None:
    def watch() -> None:
        while is_there():
            time.sleep(EVERY_S)
        then()

    threading.Thread(target=watch, name="orphan", daemon=True).start()
