"""A request in, its answer out, whatever becomes of the engine meanwhile: dead or stuck, it is started again.

The pictures that were in it are asked about anew, in ever smaller company; one that an engine dies with
`MAX_STRIKES` times is given up.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from hqclip import log
from hqclip.annotate.admission import MAX_STRIKES, Admission
from hqclip.annotate.engines.protocol import Answer, Engine, EngineBusy, EngineDied, Request, RequestFailed
from hqclip.annotate.picture import Picture
from hqclip.backoff import pause_s
from hqclip.errors import UnavailableError

PATIENCE_S = 600.0  # how long an engine may be busy with nobody getting an answer
STABLE_AFTER = 1000  # answers after which earlier deaths of the engine are forgotten


@dataclass
class Counts:
    """What was done so far; read by whoever reports progress."""

    in_flight: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    restarts: int = 0
    deaths: list[str] = field(default_factory=list)


class Supervisor:
    """Asks one started engine for answers, and keeps it running."""

    def __init__(self, engine: Engine, *, window: int, timeout_s: float, max_restarts: int) -> None:
        self.counts = Counts()
        self._engine, self._timeout_s, self._max_restarts = engine, timeout_s, max_restarts
        self._admission = Admission(window)
        self._generation = 0  # grows with every restart
        self._dead = False
        self._restarting = asyncio.Lock()
        self._recent_deaths = 0
        self._stable_at = 0  # number of requests
        self._answered = time.monotonic()

    async def answer(self, picture: Picture, request: Request) -> Answer | None:
        """One answer; None if it takes too long while others get theirs.

        Raises `RequestFailed`, also for a picture with which the engine died too often, and `UnavailableError` if the
        engine dies or stays busy beyond its limits.
        """
        tried = 0
        while True:
            await self._started()
            await self._admission.enter(picture.strikes)
            generation, asked = self._generation, time.monotonic()
            try:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._engine.answer(request)
                self._count(answer)
                return answer
            except TimeoutError:
                if self._answered > asked:
                    return None
                why = f"nothing was answered for {self._timeout_s:.0f} s"  # it is not this picture: all are stuck
            except EngineDied as error:
                why = str(error) or "it stopped"
            except EngineBusy as error:
                why = ""
                self._refuse_to_wait_longer(error)
            finally:
                await self._admission.leave(picture.strikes)
            if not why:
                await asyncio.sleep(pause_s(tried))
                tried += 1
                continue
            self._dead = self._dead or generation == self._generation
            picture.strikes = await self._admission.strike(picture.strikes)
            await self._restart(generation, why)
            if picture.strikes >= MAX_STRIKES:
                raise RequestFailed(
                    f"the engine died {MAX_STRIKES} times with this image in it, the last time alone: {why}"
                )

    async def release(self, picture: Picture) -> None:
        """Nothing more is asked about this picture; unless it has all its strikes, it is above suspicion."""
        await self._admission.clear(picture.strikes)
        if picture.strikes < MAX_STRIKES:
            picture.strikes = 0

    def _count(self, answer: Answer) -> None:
        self._answered = time.monotonic()
        counts = self.counts
        counts.requests += 1
        counts.prompt_tokens += answer.prompt_tokens
        counts.cached_tokens += answer.cached_tokens
        counts.output_tokens += answer.output_tokens
        if self._recent_deaths and counts.requests >= self._stable_at:
            self._recent_deaths = 0

    async def _started(self) -> None:
        """Wait while the engine is being started again."""
        if self._dead:
            async with self._restarting:
                pass

    async def _restart(self, generation: int, why: str) -> None:
        """Start the engine of that generation again, unless somebody has done so. Raises `UnavailableError`."""
        async with self._restarting:
            if generation != self._generation:
                return
            self.counts.deaths.append(why)
            await self._engine.close()
            while True:
                if self._recent_deaths >= self._max_restarts:
                    raise UnavailableError(
                        f"the engine died {self._recent_deaths + 1} times within {STABLE_AFTER} answers (last: {why}); "
                        "what was finished is kept, and the same command continues"
                    )
                self._recent_deaths += 1
                self.counts.restarts += 1
                log.warning("annotate", f"the engine died ({why}); starting it again")
                try:
                    await self._engine.start()
                    break
                except UnavailableError as error:
                    why = str(error)
                    await asyncio.sleep(pause_s(self._recent_deaths))
            self._stable_at = self.counts.requests + STABLE_AFTER
            self._answered = time.monotonic()
            self._generation += 1
            self._dead = False

    def _refuse_to_wait_longer(self, error: EngineBusy) -> None:
        if time.monotonic() - self._answered > PATIENCE_S:
            raise UnavailableError(
                f"the engine has been too busy to answer anything for {PATIENCE_S:.0f} s ({error}); "
                "what was finished is kept, and the same command continues"
            ) from error
