"""Who may be in the engine together: what was there when it died goes in small groups, then alone."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

ALONE = 2  # strikes with which a picture is asked about with nothing else in the engine
MAX_STRIKES = 3  # with which it is not asked about any more


class Admission:
    """Admission by strikes, the deaths of engines that a picture was in: most strikes first, never two kinds together.

    Without strikes there are `window` places, with one its square root, with more a single one. So the picture that
    kills engines is found within three deaths, and a window of innocent ones is cleared in a few small groups.
    """

    def __init__(self, window: int) -> None:
        self._capacity = [window, math.isqrt(window), 1]
        self._suspects: Counter[int] = Counter()  # pictures not yet cleared, by strikes
        self._inside: Counter[int] = Counter()
        self._waiting = 0
        self._changed = asyncio.Condition()

    def halve(self) -> None:
        """Half as many places from now on, for pictures without strikes."""
        self._capacity[0] = max(1, self._capacity[0] // 2)

    async def enter(self, strikes: int) -> None:
        """Wait for a place."""
        if not self._may_enter(strikes):
            self._waiting += 1
            try:
                async with self._changed:
                    await self._changed.wait_for(lambda: self._may_enter(strikes))
            finally:
                self._waiting -= 1
        self._inside[strikes] += 1

    async def leave(self, strikes: int) -> None:
        """Give the place back."""
        self._inside[strikes] -= 1
        await self._notify()

    async def strike(self, strikes: int) -> int:
        """A picture with so many strikes was in an engine that died; how many it has now."""
        await self.clear(strikes)
        self._suspects[strikes + 1] += 1
        return strikes + 1

    async def clear(self, strikes: int) -> None:
        """A picture with so many strikes is done with."""
        if strikes:
            self._suspects[strikes] -= 1
            await self._notify()

    def _may_enter(self, strikes: int) -> bool:
        level = max((s for s, number in self._suspects.items() if number), default=0)
        others = any(number for s, number in self._inside.items() if s != strikes)
        return strikes == level and not others and self._inside[strikes] < self._capacity[min(strikes, ALONE)]

    async def _notify(self) -> None:
        if self._waiting:
            async with self._changed:
                self._changed.notify_all()
