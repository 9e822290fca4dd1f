"""Notice that the process which started this one is gone, however it went: nobody would end this one any more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

EVERY_S = 1.0


def when_parent_is_gone(parent: str | None, then: Callable[[], None]) -> None:
    """Call `then` from a thread once this process is no longer a child of `parent`; never if that is not given."""
    if parent:
        threading.Thread(target=_watch, args=(int(parent), then), name="parent-watch", daemon=True).start()


def _watch(parent: int, then: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(EVERY_S)
    then()
