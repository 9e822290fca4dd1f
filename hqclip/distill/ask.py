"""Images and an engine in, a reply each in the ledger out: a window of requests in flight, within a budget."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hqclip.annotate.answer import read_answer
from hqclip.annotate.engines.protocol import Answer, Engine, EngineBusy, EngineDied, Finish, Request, RequestFailed
from hqclip.distill.draw import Pictures, Place
from hqclip.distill.ledger import Ledger, Reply
from hqclip.errors import ConfigError, TerminatedError, UnavailableError
from hqclip.progress import Progress
from hqclip.records import Status
from hqclip.termination import Termination

MAX_WAIT_S = 30.0  # between two attempts of a request that the engine was too busy for


@dataclass(frozen=True)
class Purse:
    """What may be spent: USD in all, and USD per million tokens read and written; a budget of 0 has no end."""

    budget_usd: float = 0.0
    input_usd: float = 0.0
    output_usd: float = 0.0

    def cost(self, prompt_tokens: int, output_tokens: int) -> float:
        """USD."""
        return (prompt_tokens * self.input_usd + output_tokens * self.output_usd) / 1e6


@dataclass(frozen=True)
class Manners:
    """How an engine is asked. `in_flight` 0 leaves the window to the engine."""

    in_flight: int
    timeout_s: float
    busy_s: float
    max_new_tokens: int
    grammar: bool
    purse: Purse = Purse()


class Asking:
    """One engine, one ledger, the images that have no reply yet."""

    def __init__(self, engine: Engine, ledger: Ledger, pictures: Pictures, manners: Manners) -> None:
        self._engine, self._ledger, self._pictures, self._manners = engine, ledger, pictures, manners
        replies = ledger.replies.values()
        self._spent = sum(manners.purse.cost(reply.prompt_tokens, reply.output_tokens) for reply in replies)
        self._longest_prompt = max((reply.prompt_tokens for reply in replies), default=0)
        self._in_flight: set[asyncio.Task[Reply]] = set()
        self._out_of_money = False

    async def run(self, name: str, places: Sequence[Place]) -> None:
        """Ask about every image that has no reply yet; what came is written down, whatever happens.

        Raises `UnavailableError` (the engine died, or was too busy for too long), `TerminatedError` and
        `ConfigError` (the budget is used up).
        """
        missing = [place for place in places if place.sha256 not in self._ledger.replies]
        if not missing:
            return
        try:
            info = await self._engine.start()
            window = self._manners.in_flight or info.max_num_seqs
            with Termination() as termination, Progress(name, len(missing), "images") as progress:
                await self._ask_all(missing, window, progress, termination)
        finally:
            for task in self._in_flight:
                task.cancel()
            await asyncio.gather(*self._in_flight, return_exceptions=True)
            self._ledger.flush()
            await self._engine.close()
        if self._out_of_money:
            self._refuse_to_go_on(places)

    async def _ask_all(
        self, missing: Sequence[Place], window: int, progress: Progress, termination: Termination
    ) -> None:
        waiting = iter(missing)
        place = next(waiting, None)
        while place is not None or self._in_flight:
            while place is not None and len(self._in_flight) < window and self._affordable():
                self._in_flight.add(asyncio.create_task(self._reply(place)))
                place = next(waiting, None)
            if not self._in_flight:
                self._out_of_money = True
                return
            done, _ = await asyncio.wait(self._in_flight, timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
            self._in_flight -= done
            for task in sorted(done, key=lambda task: task.exception() is not None):  # what came is kept before a fault
                self._record(task.result())
                progress.advance()
            if termination.asked:
                raise TerminatedError(f"SIGTERM: the answers in {self._ledger.folder} are kept")

    def _affordable(self) -> bool:
        """Whether one more request fits in the budget, even if it and all in flight write as much as they may."""
        purse = self._manners.purse
        if not purse.budget_usd:
            return True
        if not self._longest_prompt and self._in_flight:
            return False  # the first answer tells what a prompt costs
        dearest = purse.cost(self._longest_prompt, self._manners.max_new_tokens)
        return self._spent + dearest * (len(self._in_flight) + 1) <= purse.budget_usd

    def _record(self, reply: Reply) -> None:
        self._spent += self._manners.purse.cost(reply.prompt_tokens, reply.output_tokens)
        self._longest_prompt = max(self._longest_prompt, reply.prompt_tokens)
        self._ledger.add(reply)

    async def _reply(self, place: Place) -> Reply:
        request = await asyncio.to_thread(self._pictures.request, place, grammar=self._manners.grammar)
        if request is None:
            return Reply(place.uid, place.sha256, Status.UNREADABLE_IMAGE)
        try:
            answer = await asyncio.wait_for(self._answer(request), self._manners.timeout_s + self._manners.busy_s)
        except RequestFailed as error:
            return Reply(place.uid, place.sha256, Status.ENGINE_ERROR, answer=str(error))
        except TimeoutError:
            return Reply(place.uid, place.sha256, Status.TIMED_OUT)
        except EngineDied as error:
            raise UnavailableError(f"the engine is gone ({error}): the same command goes on from here") from error
        annotation, status = read_answer(answer.text, answer.finish == Finish.STOP)
        tokens = (answer.prompt_tokens, answer.output_tokens)
        return Reply(place.uid, place.sha256, status, annotation, *tokens, "" if annotation else answer.text)

    async def _answer(self, request: Request) -> Answer:
        """Asks again, ever more slowly, while the engine says it is busy."""
        start, wait = time.monotonic(), 0.5
        while True:
            try:
                return await self._engine.answer(request)
            except EngineBusy as error:
                left = start + self._manners.busy_s - time.monotonic()
                if left <= 0:
                    raise UnavailableError(
                        f"the engine was too busy for {self._manners.busy_s:.0f} s ({error}): the same command goes on "
                        "from here; lower --in-flight if it refuses so many requests at a time"
                    ) from error
                await asyncio.sleep(min(wait, left))
                wait = min(2 * wait, MAX_WAIT_S)

    def _refuse_to_go_on(self, places: Sequence[Place]) -> None:
        have = sum(place.sha256 in self._ledger.replies for place in places)
        raise ConfigError(
            f"{self._spent:.4f} of {self._manners.purse.budget_usd} USD are spent, and the next answer may go beyond: "
            f"{have} of {len(places)} images are answered, and kept in {self._ledger.folder}; "
            "give a larger --budget-usd to go on, or fewer --samples to teach with what there is"
        )
