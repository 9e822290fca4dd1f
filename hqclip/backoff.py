"""How long to wait before the next try: twice as long each time, up to a limit, and never the same for all."""

from __future__ import annotations

import random
from collections.abc import Iterator

FIRST_S, LONGEST_S = 1.0, 60.0


def pause_s(tried: int, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> float:
    """Seconds to wait after so many tries in vain (from 0): half to all of `first_s` doubled so often.

    The jitter keeps a thousand pods that lost the same service from coming back at the same moment.
    """
    full = min(longest_s, first_s * 2.0 ** min(tried, 64))
    return full * random.uniform(0.5, 1.0)  # noqa: S311 - to spread load, not to hide anything


def pauses(tries: int, *, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> Iterator[float | None]:
    """One item for each of `tries` tries: what to wait after it, and None after the last, which is not repeated."""
    for tried in range(tries - 1):
        yield pause_s(tried, first_s=first_s, longest_s=longest_s)
    yield None
