"""A request in, its answer out, whatever becomes of the engine meanwhile: dead or stuck, it is started again.

The pictures that were in it are asked about anew, in ever smaller company; one that an engine dies with
`MAX_STRIKES` times is given up. A picture that alone gets no answer while others do is given up too: where nobody
else is asked about at the time, a request that was answered before is sent again, to see whose fault it is.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hqclip import log
from hqclip.annotate.admission import MAX_STRIKES, Admission
from hqclip.annotate.engines.protocol import Answer, Engine, EngineBusy, EngineDied, Request, RequestFailed, Unanswered
from hqclip.annotate.engines.readiness import NotReadyError, out_of_memory, start_in_time
from hqclip.annotate.picture import Picture
from hqclip.annotate.probe import plain_request
from hqclip.backoff import pause_s
from hqclip.errors import AccessError, MissingSoftwareError, UnavailableError

STABLE_AFTER = 1000  # answers after which earlier deaths of the engine are forgotten
REFUSALS = 2  # rounds in which one picture gets no answer and others do, after which it is its own fault
PROBE_S = 60.0  # for the answer to a request that is known to be harmless
GOES_ON = "what was finished is kept, and the same command continues"


@dataclass(frozen=True)
class Limits:
    """Seconds that an answer may take, that a start may take, and in which an engine may be too busy for everybody."""

    timeout_s: float = 300.0
    ready_s: float = 600.0
    busy_s: float = 600.0
    max_restarts: int = 10


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

    def __init__(self, engine: Engine, window: int, limits: Limits) -> None:
        self.counts = Counts()
        self._engine, self._limits = engine, limits
        self._admission = Admission(window)
        self._generation = 0  # grows with every restart
        self._dead = False
        self._restarting = asyncio.Lock()
        self._recent_deaths = 0
        self._explained_deaths = 0  # by pictures that were given up; forgiven once another one is answered
        self._stable_at = 0  # number of requests
        self._answered = -1.0  # when a picture was answered last
        self._known_good: Request | None = None
        self._probe: asyncio.Task[Exception | None] | None = None
        self._ran_out_of_memory = False

    async def answer(self, picture: Picture, request: Request) -> Answer | None:
        """One answer; None if it takes too long while others get theirs.

        Raises `RequestFailed`, also for a picture with which the engine died too often or that alone gets no answer;
        `UnavailableError` if the engine dies or answers nobody beyond its limits, `AccessError` if it lets nobody in
        any more, `MissingSoftwareError` if its memory does not suffice.
        """
        tries: _Tries | None = None
        clock = asyncio.get_running_loop().time
        while True:
            await self._started()
            await self._admission.enter(picture.strikes)
            generation, asked = self._generation, clock()
            try:
                async with asyncio.timeout(self._limits.timeout_s):
                    answer = await self._engine.answer(request)
                self._count(answer)
                self._answered, self._known_good = clock(), request
                if self._recent_deaths:
                    self._forgive()
                return answer
            except TimeoutError:
                if await self._fault_of_all(asked) is None:
                    return None
                why = f"nothing was answered for {self._limits.timeout_s:.0f} s"
            except EngineDied as error:
                why = str(error) or "it stopped"
            except (EngineBusy, Unanswered) as error:
                why = ""
                tries = tries or _Tries(since=asked)
                await self._blame(error, tries, asked)
            finally:
                await self._admission.leave(picture.strikes)
            if why or tries is None:
                await self._strike(picture, generation, why)
            else:
                await asyncio.sleep(pause_s(tries.in_vain))
                tries.in_vain += 1

    async def release(self, picture: Picture) -> None:
        """Nothing more is asked about this picture; unless it has all its strikes, it is above suspicion."""
        await self._admission.clear(picture.strikes)
        if picture.strikes < MAX_STRIKES:
            picture.strikes = 0

    async def _blame(self, error: EngineBusy | Unanswered, tries: _Tries, asked: float) -> None:
        """Raise `RequestFailed` if it is this picture, what ends the stage if it is the engine; else ask again."""
        too_long = _now() - max(tries.since, self._answered) > self._limits.busy_s
        if isinstance(error, EngineBusy):  # which says nothing of the picture, unless nobody else is there any more
            fault = await self._fault_of_all(_now()) if too_long else error
            tries.refused += REFUSALS if fault is None else 0
        else:
            fault = await self._fault_of_all(asked)
            tries.refused += 1 if fault is None else 0
        if tries.refused >= REFUSALS:
            raise RequestFailed(f"this image alone is not answered: {error}")
        if isinstance(error, Unanswered) and isinstance(fault, Unanswered) and error.denied and fault.denied:
            raise AccessError(
                f"the engine refuses everybody ({fault}): look at account, key, model and prompt; {GOES_ON}"
            )
        if fault is not None and too_long:
            raise UnavailableError(
                f"the engine has answered nobody for {self._limits.busy_s:.0f} s ({error}); {GOES_ON}"
            ) from error

    async def _fault_of_all(self, asked: float) -> Exception | None:
        """Why nobody is answered; None if somebody was since `asked`, or is now."""
        if self._answered > asked:
            return None
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._ask_what_is_known())
        return await asyncio.shield(self._probe)

    async def _ask_what_is_known(self) -> Exception | None:
        """Whoever wants to know while it is being found out hears the same."""
        fault: Exception | None = None
        for request in filter(None, (self._known_good, plain_request())):  # what was answered once may fail now
            try:
                async with asyncio.timeout(min(PROBE_S, self._limits.timeout_s)):
                    self._count(await self._engine.answer(request))
                return None
            except RequestFailed:
                return None  # the engine lives
            except (TimeoutError, EngineBusy, Unanswered, EngineDied) as error:
                fault = error
        return fault

    async def _strike(self, picture: Picture, generation: int, why: str) -> None:
        """The engine died with this picture in it. Raises `RequestFailed` if that was once too often."""
        crowded = picture.strikes == 0
        self._dead = self._dead or generation == self._generation
        picture.strikes = await self._admission.strike(picture.strikes)
        await self._restart(generation, why, crowded)
        if picture.strikes >= MAX_STRIKES:
            self._explained_deaths += MAX_STRIKES
            raise RequestFailed(
                f"the engine died {MAX_STRIKES} times with this image in it, the last time alone: {why}"
            )

    def _count(self, answer: Answer) -> None:
        counts = self.counts
        counts.requests += 1
        counts.prompt_tokens += answer.prompt_tokens
        counts.cached_tokens += answer.cached_tokens
        counts.output_tokens += answer.output_tokens

    def _forgive(self) -> None:
        """Forget the deaths that are explained or long ago."""
        stable = self.counts.requests >= self._stable_at
        self._recent_deaths = 0 if stable else max(0, self._recent_deaths - self._explained_deaths)
        self._explained_deaths = 0

    async def _started(self) -> None:
        """Wait while the engine is being started again."""
        if self._dead:
            async with self._restarting:
                pass

    async def _restart(self, generation: int, why: str, crowded: bool) -> None:
        """Start the engine of that generation again, unless somebody has done so. Raises `UnavailableError`."""
        async with self._restarting:
            if generation != self._generation:
                return
            self.counts.deaths.append(why)
            if crowded and out_of_memory(why):
                self._halve(why)
            await self._engine.close()
            while why:
                why = await self._start_again(why)
            self._stable_at = self.counts.requests + STABLE_AFTER
            self._generation += 1
            self._dead = False

    async def _start_again(self, why: str) -> str:
        """One try to start the engine, which died of `why`; empty if it answers, else why not."""
        if self._recent_deaths >= self._limits.max_restarts:
            raise UnavailableError(
                f"the engine died {self._recent_deaths + 1} times within {STABLE_AFTER} answers (last: {why}); "
                f"{GOES_ON}"
            )
        self._recent_deaths += 1
        self.counts.restarts += 1
        log.warning("annotate", f"the engine died ({why}); starting it again")
        try:
            await start_in_time(self._engine, self._limits.ready_s)
        except NotReadyError:
            raise  # it would take as long again
        except UnavailableError as error:
            await asyncio.sleep(pause_s(self._recent_deaths))
            return str(error)
        fault = await self._ask_what_is_known()
        if isinstance(fault, TimeoutError | EngineDied):  # then no picture is to blame
            await self._engine.close()
            return f"started again, it answered nothing ({str(fault) or 'in time'})"
        return ""

    def _halve(self, why: str) -> None:
        """Fewer requests at a time from now on. Raises `MissingSoftwareError` if that did not help before."""
        if self._ran_out_of_memory:
            raise MissingSoftwareError(
                f"the engine ran out of memory again with half as many requests in it ({why}): lower --max-num-seqs, "
                f"--image-tokens or --gpu-memory, or take a larger GPU; {GOES_ON}"
            )
        self._ran_out_of_memory = True
        self._admission.halve()
        log.warning("annotate", "the engine ran out of memory; half as many requests are sent at a time from now on")


@dataclass
class _Tries:
    """What was tried with one request: since when, how often in vain, and how often others were answered meanwhile."""

    since: float
    in_vain: int = 0
    refused: int = 0


def _now() -> float:
    """Seconds, by the clock of the event loop."""
    return asyncio.get_running_loop().time()
