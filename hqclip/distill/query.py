"""Images and an engine in, a response each in the log out: a window of requests in flight, within a budget."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from hqclip.annotate.answer import read
from hqclip.annotate.engines.protocol import Engine, RequestFailed
from hqclip.annotate.engines.readiness import start_in_time
from hqclip.annotate.picture import Picture
from hqclip.annotate.supervisor import Limits, Supervisor
from hqclip.distill.pool_images import ImageRef, PoolImages
from hqclip.distill.response_log import Response, ResponseLog
from hqclip.errors import ConfigError, TerminatedError
from hqclip.foreign_text import writable
from hqclip.progress import Progress
from hqclip.records import Status
from hqclip.termination import Termination


@dataclass(frozen=True)
class Budget:
    """What may be spent: USD in all, and USD per million tokens read and written; a `limit_usd` of 0 has no end."""

    limit_usd: float = 0.0
    input_usd: float = 0.0
    output_usd: float = 0.0

    def cost(self, prompt_tokens: int, output_tokens: int) -> float:
        """USD."""
        return (prompt_tokens * self.input_usd + output_tokens * self.output_usd) / 1e6


@dataclass(frozen=True)
class RequestLimits:
    """How much is asked of an engine, and how patiently. `in_flight` 0 leaves the window to the engine."""

    in_flight: int
    patience: Limits
    max_new_tokens: int
    budget: Budget = Budget()


class BatchQuery:
    """One engine, one log, the images that have no response in it yet."""

    def __init__(
        self, engine: Engine, log: ResponseLog, images: PoolImages, limits: RequestLimits, *, grammar: bool
    ) -> None:
        self._engine, self._log, self._images, self._limits, self._grammar = engine, log, images, limits, grammar
        responses = log.responses.values()
        self._spent = sum(limits.budget.cost(each.prompt_tokens, each.output_tokens) for each in responses)
        self._longest_prompt = max((each.prompt_tokens for each in responses), default=0)
        self._in_flight: set[asyncio.Task[Response]] = set()
        self._budget_used_up = False

    async def run(self, name: str, refs: Sequence[ImageRef]) -> None:
        """Ask about every image that has no response yet; what came is written down, whatever happens.

        Raises what `Supervisor.answer` raises of the engine, `TerminatedError` and `ConfigError` (the budget is used
        up).
        """
        missing = [ref for ref in refs if ref.sha256 not in self._log.responses]
        if not missing:
            return
        try:
            info = await start_in_time(self._engine, self._limits.patience.ready_s)
            window = self._limits.in_flight or info.max_num_seqs
            self._supervisor = Supervisor(self._engine, window, self._limits.patience)
            with Termination() as termination, Progress(name, len(missing), "images") as progress:
                await self._ask_all(missing, window, progress, termination)
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            self._log.flush()
            await self._engine.close()
        if self._budget_used_up:
            self._refuse_to_exceed(refs)

    async def _ask_all(
        self, missing: Sequence[ImageRef], window: int, progress: Progress, termination: Termination
    ) -> None:
        waiting = iter(missing)
        ref = next(waiting, None)
        while ref is not None or self._in_flight:
            while ref is not None and len(self._in_flight) < window and self._affordable():
                self._in_flight.add(asyncio.create_task(self._response(ref)))
                ref = next(waiting, None)
            if not self._in_flight:
                self._budget_used_up = True
                return
            done, _ = await asyncio.wait(self._in_flight, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            self._in_flight -= done
            for task in sorted(done, key=lambda task: task.exception() is not None):  # what came is kept before a fault
                self._record(task.result())
                progress.advance()
            if termination.asked:
                raise TerminatedError(f"SIGTERM: the answers in {self._log.folder} are kept")

    def _affordable(self) -> bool:
        """Whether one more request fits in the budget, even if it and all in flight write as much as they may."""
        budget = self._limits.budget
        if not budget.limit_usd:
            return True
        if not self._longest_prompt and self._in_flight:
            return False  # the first answer tells what a prompt costs
        dearest = budget.cost(self._longest_prompt, self._limits.max_new_tokens)
        return self._spent + dearest * (len(self._in_flight) + 1) <= budget.limit_usd

    def _record(self, response: Response) -> None:
        self._spent += self._limits.budget.cost(response.prompt_tokens, response.output_tokens)
        self._longest_prompt = max(self._longest_prompt, response.prompt_tokens)
        self._log.add(response)

    async def _response(self, ref: ImageRef) -> Response:
        request = await asyncio.to_thread(self._images.request, ref, grammar=self._grammar)
        if request is None:
            return Response(ref.uid, ref.sha256, Status.UNREADABLE_IMAGE)
        picture = Picture(None, ref.uid, request.image, request.alt_text, ref.sha256)
        try:
            answer = await self._supervisor.answer(picture, request)
        except RequestFailed as error:
            return Response(ref.uid, ref.sha256, Status.ENGINE_ERROR, answer=writable(str(error)))
        finally:
            await self._supervisor.release(picture)
        if answer is None:
            return Response(ref.uid, ref.sha256, Status.TIMED_OUT)
        annotation, status = read(answer)
        tokens = (answer.prompt_tokens, answer.output_tokens)
        return Response(ref.uid, ref.sha256, status, annotation, *tokens, "" if annotation else writable(answer.text))

    def _refuse_to_exceed(self, refs: Sequence[ImageRef]) -> None:
        have = sum(ref.sha256 in self._log.responses for ref in refs)
        raise ConfigError(
            f"{self._spent:.4f} of {self._limits.budget.limit_usd} USD are spent, and the next answer may go beyond: "
            f"{have} of {len(refs)} images are answered, and kept in {self._log.folder}; "
            "give a larger --budget-usd to go on, or fewer --samples to teach with what there is"
        )
