"""What every engine must do, as checks on one engine: `asyncio.Runner.run(check(subject))`.

`STARTED` are checks of an engine that goes on afterwards, so that one start serves them all; they must run in the event
loop it was started in. `LIVES` start and close engines of their own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hqclip.annotate.engines.protocol import (
    Answer,
    Engine,
    EngineBusy,
    EngineDied,
    EngineInfo,
    Finish,
    Request,
    RequestFailed,
    Unanswered,
)
from hqclip.annotate.prompt import Prompt
from hqclip.records import FIELDS

PATIENCE_S = 120.0  # an engine that takes longer hangs


@dataclass(frozen=True)
class Subject:
    """An engine under contract. `make(**settings)` gives a new one, not started.

    `requests` are greedy, of eight pictures or more; most of their answers differ. `engine` is one that is started,
    with its `info`.
    """

    make: Callable[..., Engine]
    requests: Sequence[Request]
    prompt: Prompt
    engine: Engine
    info: EngineInfo


Check = Callable[[Subject], Awaitable[None]]


async def it_says_what_was_started(subject: Subject) -> None:
    info = subject.info
    assert info.name
    assert info.version
    assert info.device
    assert info.num_gpus >= 0
    assert info.max_num_seqs >= 1
    json.dumps(dict(info.settings))  # they are kept with the results


async def an_answer_has_a_text_an_end_and_its_tokens(subject: Subject) -> None:
    answer = await ask(subject.engine, subject.requests[0])
    assert answer.text.strip()
    assert answer.finish is Finish.STOP
    assert answer.prompt_tokens > 0
    assert answer.output_tokens > 0
    assert 0 <= answer.cached_tokens <= answer.prompt_tokens


async def the_same_request_gets_the_same_answer(subject: Subject) -> None:
    first = await ask(subject.engine, subject.requests[0])
    assert said(await ask(subject.engine, subject.requests[0])) == said(first)


async def every_picture_gets_its_own_answer_in_any_company(subject: Subject) -> None:
    alone = [said(await ask(subject.engine, request)) for request in subject.requests]
    assert len({text for text, *_ in alone}) > len(alone) // 2, "the pictures are too much alike to tell"
    order = np.random.default_rng(0).permutation(np.repeat(np.arange(len(alone)), 3))
    answers = await ask_all(subject.engine, [subject.requests[number] for number in order])
    assert [said(answer) for answer in answers] == [alone[number] for number in order]


async def a_request_that_is_given_up_disturbs_nobody(subject: Subject) -> None:
    expected = [said(answer) for answer in await ask_all(subject.engine, subject.requests)]
    tasks = [asyncio.create_task(ask(subject.engine, request)) for request in subject.requests]
    await asyncio.sleep(0)
    tasks[0].cancel()  # before it is looked at
    await asyncio.sleep(0.05)
    tasks[1].cancel()  # while it is worked on, unless the engine is that fast
    done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
    assert all(isinstance(end, asyncio.CancelledError | Answer) for end in done[:2]), done[:2]
    assert [said(answer) for answer in done[2:]] == expected[2:]
    again = await ask_all(subject.engine, subject.requests)
    assert [said(answer) for answer in again] == expected


async def a_request_that_cannot_be_served_fails_alone(subject: Subject) -> None:
    good = subject.requests[0]
    thread = replace(good, uid="f" * 32, image=np.zeros((1, 300, 3), np.uint8))
    expected = said(await ask(subject.engine, good))
    one, other, two = await asyncio.gather(
        ask(subject.engine, good), ask(subject.engine, thread), ask(subject.engine, good), return_exceptions=True
    )
    assert isinstance(other, RequestFailed | Unanswered | Answer), repr(other)
    assert [said(one), said(two)] == [expected, expected]
    if isinstance(other, RequestFailed | Unanswered):
        assert str(other), "nobody would know why"
        assert len(str(other)) < 1000


async def a_grammar_binds_the_answer_to_the_schema(subject: Subject) -> None:
    answers = await ask_all(subject.engine, [replace(request, grammar=True) for request in subject.requests[:4]])
    if not subject.info.grammar:
        assert all(answer.text for answer in answers)  # it answers freely
        return
    properties = subject.prompt.schema["properties"]
    for answer in answers:
        document = json.loads(answer.text)
        assert tuple(document) == FIELDS
        for name, texts in document.items():
            assert 1 <= len(texts) <= properties[name]["maxItems"]
            assert all(isinstance(text, str) for text in texts)


async def an_answer_ends_at_the_token_limit(subject: Subject) -> None:
    engine = subject.make(max_new_tokens=16)
    await engine.start()
    try:
        answer = await ask(engine, subject.requests[0])
    finally:
        await engine.close()
    assert answer.finish is Finish.LENGTH
    assert answer.output_tokens == 16


async def it_starts_again_after_it_was_closed(subject: Subject) -> None:
    engine = subject.make()
    await engine.close()  # it never started: nothing happens
    first = await engine.start()
    before = said(await ask(engine, subject.requests[0]))
    await engine.close()
    await engine.close()
    try:
        await ask(engine, subject.requests[0])
        raise AssertionError("a closed engine answered")
    except EngineDied:
        pass
    assert await engine.start() == first
    try:
        assert said(await ask(engine, subject.requests[0])) == before
    finally:
        await engine.close()


async def closing_takes_everything_in_flight_along(subject: Subject) -> None:
    engine = subject.make()
    await engine.start()
    tasks = [asyncio.create_task(ask(engine, request)) for request in subject.requests]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(engine.close(), PATIENCE_S)
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), PATIENCE_S)
    assert all(isinstance(end, Answer | EngineDied | asyncio.CancelledError) for end in ends), ends


STARTED: tuple[Check, ...] = (
    it_says_what_was_started,
    an_answer_has_a_text_an_end_and_its_tokens,
    the_same_request_gets_the_same_answer,
    every_picture_gets_its_own_answer_in_any_company,
    a_request_that_is_given_up_disturbs_nobody,
    a_request_that_cannot_be_served_fails_alone,
    a_grammar_binds_the_answer_to_the_schema,
)
LIVES: tuple[Check, ...] = (
    an_answer_ends_at_the_token_limit,
    it_starts_again_after_it_was_closed,
    closing_takes_everything_in_flight_along,
)


async def ask(engine: Engine, request: Request) -> Answer:
    """One answer, or what an engine may raise. A busy engine is asked again, as the dispatcher does."""
    while True:
        try:
            return await asyncio.wait_for(engine.answer(request), PATIENCE_S)
        except EngineBusy:
            await asyncio.sleep(0.05)


async def ask_all(engine: Engine, requests: Sequence[Request]) -> list[Answer]:
    """Answers in the order of the requests, which are all in flight at once."""
    return list(await asyncio.gather(*(ask(engine, request) for request in requests)))


def said(answer: Any) -> tuple[str, Finish, int, int]:
    """All of an answer but what was cached, which depends on what came before."""
    assert isinstance(answer, Answer), repr(answer)
    return answer.text, answer.finish, answer.prompt_tokens, answer.output_tokens
