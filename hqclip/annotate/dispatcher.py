"""Pictures in, rows out as they finish: a window of requests that never runs dry, across the borders of shards.

A picture holds its place in the window until its row is kept. What goes wrong with a picture is its row; what goes
wrong with the engine is the supervisor's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from hqclip.annotate.admission import MAX_STRIKES
from hqclip.annotate.answer import read
from hqclip.annotate.engines.protocol import Answer, Engine, RequestFailed
from hqclip.annotate.picture import Picture
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.annotate.supervisor import Limits, Supervisor
from hqclip.errors import HQClipError
from hqclip.foreign_text import writable
from hqclip.records import AnnotatedRow, Annotation, Status

KEPT_ANSWER = 4096  # characters kept of an answer that could not be used
MOST_TOKENS = 2**32 - 1  # that a row can tell; only servers that do not count honestly have more
Keep = Callable[[Picture, AnnotatedRow], Awaitable[None]]


class Dispatcher:
    """Keeps `window` pictures in flight in a started engine."""

    def __init__(
        self,
        engine: Engine,
        retry_policy: RetryPolicy,
        *,
        window: int,
        limits: Limits,
    ) -> None:
        self._window, self._retry_policy = window, retry_policy
        self._supervisor = Supervisor(engine, window, limits)
        self.counts = self._supervisor.counts

    async def run(self, pictures: AsyncIterator[Picture], keep: Keep) -> None:
        """Ask about every picture and hand its row to `keep`, which may wait.

        Raises what `Supervisor.answer` raises of the engine, and whatever `keep` raises.
        """
        room = asyncio.Semaphore(self._window)

        async def dispatch(picture: Picture) -> None:
            try:
                await keep(picture, await self._row(picture))
            finally:
                self.counts.in_flight -= 1
                room.release()

        try:
            async with asyncio.TaskGroup() as tasks:
                async for picture in pictures:
                    await room.acquire()
                    self.counts.in_flight += 1
                    tasks.create_task(dispatch(picture))
        except BaseExceptionGroup as group:
            raise _the_cause(group) from group

    async def _row(self, picture: Picture) -> AnnotatedRow:
        """Ask until an answer can be used or the retry policy allows no further attempt."""
        if picture.image is None:
            return AnnotatedRow(picture.uid, picture.fault, None, attempts=0, answer=picture.reason)
        faults: tuple[Status, ...] = ()
        answers: list[Answer] = []
        try:
            while len(faults) < self._retry_policy.attempts:
                request = self._retry_policy.request(
                    picture.uid, picture.image, picture.alt_text, picture.sha256, faults
                )
                answer = await self._supervisor.answer(picture, request)
                if answer is None:
                    faults += (Status.TIMED_OUT,)
                    continue
                answers.append(answer)
                annotation, status = read(answer)
                faults += (status,)
                if annotation is not None:
                    return _made(picture, status, answers, len(faults), annotation=annotation)
        except RequestFailed as error:
            failed = Status.QUARANTINED if picture.strikes >= MAX_STRIKES else Status.ENGINE_ERROR
            return _made(picture, failed, answers, len(faults) + 1, said=str(error))
        finally:
            await self._supervisor.release(picture)
        said = answers[-1].text if answers and faults[-1] != Status.TIMED_OUT else ""
        return _made(picture, faults[-1], answers, len(faults), said=said)


def _made(
    picture: Picture,
    status: Status,
    answers: Sequence[Answer],
    attempts: int,
    *,
    annotation: Annotation | None = None,
    said: str = "",
) -> AnnotatedRow:
    """The row of a picture; tokens are those of all attempts."""
    return AnnotatedRow(
        picture.uid,
        status,
        annotation,
        min(sum(answer.prompt_tokens for answer in answers), MOST_TOKENS),
        min(sum(answer.output_tokens for answer in answers), MOST_TOKENS),
        attempts,
        writable(said[:KEPT_ANSWER]),
    )


def _the_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a person can act on, before what is a bug."""
    known, rest = group.split(HQClipError)
    found = known or rest
    assert found is not None  # a group is never empty
    first = found.exceptions[0]
    return _the_cause(first) if isinstance(first, BaseExceptionGroup) else first
