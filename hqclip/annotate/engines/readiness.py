"""An engine in, a started one out; or, after so many seconds, a clear end."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from hqclip.annotate.engines.protocol import Engine, EngineInfo
from hqclip.errors import UnavailableError

OUT_OF_MEMORY = ("out of memory", "outofmemory", "no available memory for the cache blocks", "free memory on device")
CLOSE_S = 30.0  # for an engine that hangs to be closed


class NotReadyError(UnavailableError):
    """The engine was not ready in time."""


async def start_in_time(engine: Engine, limit_s: float) -> EngineInfo:
    """Start it. Raises `NotReadyError` after `limit_s` seconds, and what `Engine.start` raises."""
    limit = asyncio.timeout(limit_s)
    try:
        async with limit:
            return await engine.start()
    except TimeoutError as error:
        if not limit.expired():
            raise
        with suppress(TimeoutError):  # it may hang there too
            await asyncio.wait_for(engine.close(), CLOSE_S)
        raise NotReadyError(
            f"the engine was not ready after {limit_s:.0f} s; look at its machine and the disk of its model, or allow "
            "more with --ready-s; the same command tries again"
        ) from error


def out_of_memory(why: str) -> bool:
    """Whether an engine's last words say that its memory did not suffice."""
    return any(words in why.lower() for words in OUT_OF_MEMORY)
