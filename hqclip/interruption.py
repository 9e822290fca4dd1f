"""What breaks into the main thread from a signal handler, wherever that is just then.

It is the fault of nothing that is being done there: a picture being decoded, a request under way, a store whose faults
are only told. So nothing on its way may take it for one, count it, or try again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hqclip.errors import HQClipError


class Interruption(BaseException):
    """Raised by a handler within `interruptible`. Like KeyboardInterrupt, no `except Exception` holds it up."""

    def __init__(self, fault: HQClipError) -> None:
        super().__init__(str(fault))
        self.fault = fault


@contextmanager
def interruptible() -> Iterator[None]:
    """What breaks into the block leaves it as the fault that it carries, for those who end a stage or a command.

    Entered before the handler is set and left after it is put back: it may come while that is done.
    """
    try:
        yield
    except Interruption as came:
        raise came.fault from None
