"""Pictures in, rows out as they finish: a window of requests that never runs dry, across the borders of shards.

A picture holds its place in the window until its row is kept. What goes wrong with one picture is its row; what goes
wrong with the engine is mended here: it is started again, and the pictures that were in it are asked about anew.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hqclip.annotate.admission import OUT, Admission
from hqclip.annotate.answer import read_answer
from hqclip.annotate.engines.protocol import (
    Answer,
    Engine,
    EngineBusy,
    EngineDied,
    EngineInfo,
    Finish,
    Request,
    RequestFailed,
)
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.data.images import Pixels
from hqclip.errors import HQClipError, UnavailableError
from hqclip.records import AnnotatedRow, Status

KEPT_ANSWER = 4096  # characters kept of an answer that could not be used
PATIENCE_S = 600.0  # how long an engine may be busy with nobody getting an answer
CALM = 1000  # answers after which earlier deaths of the engine are forgotten
MAX_PAUSE_S = 60.0


@dataclass
class Picture:
    """One sample on its way: `place` says where its row belongs; without an image there is nothing to ask."""

    place: Any
    uid: str
    image: Pixels | None
    alt_text: str
    sha256: str = ""
    fault: Status = Status.UNREADABLE_IMAGE
    strikes: int = 0


Keep = Callable[[Picture, AnnotatedRow], Awaitable[None]]


@dataclass
class Counts:
    """What the dispatcher has done so far; read by whoever reports progress."""

    in_flight: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    restarts: int = 0
    deaths: list[str] = field(default_factory=list)


class Dispatcher:
    """Keeps `window` pictures in flight in a started engine."""

    def __init__(
        self,
        engine: Engine,
        retry_policy: RetryPolicy,
        *,
        window: int,
        timeout_s: float = 300.0,
        max_restarts: int = 10,
    ) -> None:
        self.window = window
        self.counts = Counts()
        self._engine, self._retry_policy = engine, retry_policy
        self._timeout_s, self._max_restarts = timeout_s, max_restarts
        self._admission = Admission(window)
        self._life = 0  # grows with every restart
        self._dead = False
        self._reviving = asyncio.Lock()
        self._deaths = 0  # since the engine was last calm
        self._calm_after = 0
        self._answered = time.monotonic()

    async def run(self, pictures: AsyncIterator[Picture], keep: Keep) -> None:
        """Ask about every picture and hand its row to `keep`, which may wait.

        Raises `UnavailableError` if the engine dies or stays busy beyond its limits, and whatever `keep` raises.
        """
        places = asyncio.Semaphore(self.window)
        self._answered = time.monotonic()

        async def follow(picture: Picture) -> None:
            try:
                await keep(picture, await self._row(picture))
            finally:
                self.counts.in_flight -= 1
                places.release()

        try:
            async with asyncio.TaskGroup() as tasks:
                async for picture in pictures:
                    await places.acquire()
                    self.counts.in_flight += 1
                    tasks.create_task(follow(picture))
        except BaseExceptionGroup as group:
            raise _the_cause(group) from group

    async def _row(self, picture: Picture) -> AnnotatedRow:
        """Climb the retry_policy until the answer can be used."""
        if picture.image is None:
            return AnnotatedRow(picture.uid, picture.fault, None, attempts=0)
        faults: tuple[Status, ...] = ()
        answers: list[Answer] = []
        try:
            while len(faults) < self._retry_policy.attempts:
                request = self._retry_policy.request(
                    picture.uid, picture.image, picture.alt_text, picture.sha256, faults
                )
                answer = await self._ask(picture, request)
                if answer is None:
                    faults += (Status.TIMED_OUT,)
                    continue
                answers.append(answer)
                annotation, status = read(answer)
                faults += (status,)
                if annotation is not None:
                    return self._made(picture, status, answers, len(faults), annotation=annotation)
        except RequestFailed as error:
            return self._made(picture, Status.ENGINE_ERROR, answers, len(faults) + 1, said=str(error))
        finally:
            await self._admission.clear(picture.strikes)
            picture.strikes = 0 if picture.strikes < OUT else picture.strikes
        said = answers[-1].text if answers and faults[-1] != Status.TIMED_OUT else ""
        return self._made(picture, faults[-1], answers, len(faults), said=said)

    def _made(
        self, picture: Picture, status: Status, answers: list[Answer], attempts: int, **more: Any
    ) -> AnnotatedRow:
        """The row of a picture; tokens are those of all attempts."""
        return AnnotatedRow(
            picture.uid,
            Status.QUARANTINED if picture.strikes >= OUT else status,
            more.get("annotation"),
            sum(answer.prompt_tokens for answer in answers),
            sum(answer.output_tokens for answer in answers),
            attempts,
            more.get("said", "")[:KEPT_ANSWER],
        )

    async def _ask(self, picture: Picture, request: Request) -> Answer | None:
        """One answer, whatever becomes of the engine meanwhile; None if it takes too long.

        Raises `RequestFailed`, also for a picture with which the engine died too often.
        """
        pause = 1.0
        while True:
            await self._alive()
            await self._admission.enter(picture.strikes)
            life, asked = self._life, time.monotonic()
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
                await self._still_patient(error)
            finally:
                await self._admission.leave(picture.strikes)
            if not why:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, MAX_PAUSE_S)
                continue
            self._dead = self._dead or life == self._life
            picture.strikes = await self._admission.strike(picture.strikes)
            await self._revive(life, why)
            if picture.strikes >= OUT:
                raise RequestFailed(f"the engine died {OUT} times with this image in it, the last time alone: {why}")

    def _count(self, answer: Answer) -> None:
        self._answered = time.monotonic()
        counts = self.counts
        counts.requests += 1
        counts.prompt_tokens += answer.prompt_tokens
        counts.cached_tokens += answer.cached_tokens
        counts.output_tokens += answer.output_tokens
        if self._deaths and counts.requests >= self._calm_after:
            self._deaths = 0

    async def _alive(self) -> None:
        """Wait while the engine is being started again."""
        if self._dead:
            async with self._reviving:
                pass

    async def _revive(self, life: int, why: str) -> None:
        """Start the engine of that life again, unless somebody has done so. Raises `UnavailableError`."""
        async with self._reviving:
            if life != self._life:
                return
            self.counts.deaths.append(why)
            await self._engine.close()
            while True:
                if self._deaths >= self._max_restarts:
                    raise UnavailableError(
                        f"the engine died {self._deaths + 1} times within {CALM} answers (last: {why}); "
                        "what was finished is kept, and the same command continues"
                    )
                self._deaths += 1
                self.counts.restarts += 1
                print(f"annotate: the engine died ({why}); starting it again", file=sys.stderr, flush=True)
                try:
                    await self._engine.start()
                    break
                except UnavailableError as error:
                    why = str(error)
                    await asyncio.sleep(min(2.0**self._deaths, MAX_PAUSE_S))
            self._calm_after = self.counts.requests + CALM
            self._answered = time.monotonic()
            self._life += 1
            self._dead = False

    async def _still_patient(self, error: EngineBusy) -> None:
        if time.monotonic() - self._answered > PATIENCE_S:
            raise UnavailableError(
                f"the engine has been too busy to answer anything for {PATIENCE_S:.0f} s ({error}); "
                "what was finished is kept, and the same command continues"
            ) from error


def read(answer: Answer) -> tuple[Any, Status]:
    """The four texts of an answer, or None and the fault: what `read_answer` finds, and what the engine noticed."""
    if answer.finish is Finish.REPETITION:
        return None, Status.REPEATED
    return read_answer(answer.text, answer.finish is Finish.STOP)


def _the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a person can act on, before what is a bug."""
    known, rest = group.split(HQClipError)
    found = known or rest
    assert found is not None  # a group is never empty
    first = found.exceptions[0]
    return _the_cause(first) if isinstance(first, BaseExceptionGroup) else first


def describe(info: EngineInfo) -> str:
    """`vllm 0.33.0 on NVIDIA H100, 512 sequences at a time`."""
    return f"{info.name} {info.version} on {info.device}, {info.max_num_seqs} sequences at a time"
