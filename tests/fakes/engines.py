"""An engine that reads its answers from a table, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence

from hqclip.annotate.engines.protocol import Answer, EngineDied, EngineInfo, Finish, Request

GOOD = json.dumps({"tags": ["a"], "neg_tags": ["b"], "desc": ["an a"], "neg_desc": ["a b"]})


def said(text: str = GOOD, finish: Finish = Finish.STOP, prompt_tokens: int = 5, output_tokens: int = 7) -> Answer:
    """An answer of a few tokens."""
    return Answer(text, finish, prompt_tokens, output_tokens)


Script = Sequence[Answer | Exception] | Callable[[Request], Answer | Exception]


class ScriptedEngine:
    """Answers by alt-text: one entry after the other, the last one for ever; everything else gets `default`, `GOOD`.

    The engine dies whenever it works on a uid of `killers`, and never answers one of `hangs`.
    """

    def __init__(
        self,
        scripts: dict[str, Script] | None = None,
        *,
        killers: Sequence[str] = (),
        hangs: Sequence[str] = (),
        max_num_seqs: int = 8,
        delay_s: float = 0.0,
        default: Script = (),
    ) -> None:
        self.default = default or [said()]
        self.scripts, self.killers, self.hangs = scripts or {}, set(killers), set(hangs)
        self.max_num_seqs, self.delay_s = max_num_seqs, delay_s
        self.asked: list[Request] = []
        self.starts = 0
        self.most_inside = 0
        self._inside = 0
        self._died: asyncio.Future[None] | None = None

    async def start(self) -> EngineInfo:
        self.starts += 1
        self._died = asyncio.get_running_loop().create_future()
        return EngineInfo("scripted", "1", "paper", 0, self.max_num_seqs, grammar=True)

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        self._inside += 1
        self.most_inside = max(self.most_inside, self._inside)
        try:
            return await self._answer(request)
        finally:
            self._inside -= 1

    async def _answer(self, request: Request) -> Answer:
        died = self._died
        if died is None or died.done():
            raise EngineDied("it is dead")
        if request.uid in self.killers:
            await asyncio.sleep(0)
            self.die()
        wait = None if request.uid in self.hangs else self.delay_s
        await asyncio.wait([died], timeout=wait)
        if died.done():
            raise EngineDied("killed")
        script = self.scripts.get(request.alt_text, self.default)
        if callable(script):
            answer = script(request)
        else:
            asked = sum(earlier.alt_text == request.alt_text for earlier in self.asked)
            answer = script[min(asked, len(script)) - 1]
        if isinstance(answer, Exception):
            raise answer
        if died.done():
            raise EngineDied("killed")
        return answer

    def die(self) -> None:
        """Take everything in flight along."""
        if self._died is not None and not self._died.done():
            self._died.set_result(None)

    async def close(self) -> None:
        self.die()
