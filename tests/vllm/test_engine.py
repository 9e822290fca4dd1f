"""The contract of engines, kept by vLLM itself; and what only a real engine can show."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest

from hqclip.annotate.annotator import DEMO_MODEL
from hqclip.annotate.answer import read_answer
from hqclip.annotate.engines.protocol import EngineDied, Finish, Request, RequestFailed
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.engines.vllm import engine_arguments, start_within_memory
from hqclip.config import AnnotateConfig
from hqclip.errors import ConfigError, MissingSoftwareError
from hqclip.records import Status
from tests.engine_contract import STARTED, Check, ask, ask_all
from tests.vllm.conftest import PROMPT, SETTINGS, Started, draw_requests, make


@pytest.mark.parametrize("check", STARTED, ids=lambda check: check.__name__)
def test_the_contract(started: Started, check: Check):
    started.runner.run(check(started.subject()))


def test_its_limits_are_those_that_were_set_and_not_its_own(started: Started):
    assert started.info.settings["max_num_seqs"] == 16
    assert started.info.settings["max_num_batched_tokens"] == 1024
    assert started.info.settings["mm_processor_cache_gb"] == 0


def test_greedy_answers_are_those_of_transformers(started: Started):
    """Token for token: the two share nothing but the weights and the tokenizer."""
    requests = draw_requests(64)
    other = make_engine(AnnotateConfig(**{**SETTINGS, "engine": "transformers", "threads": 1}), PROMPT, DEMO_MODEL)

    async def theirs() -> Any:
        await other.start()
        try:
            return await ask_all(other, requests)
        finally:
            await other.close()

    answers = started.runner.run(ask_all(started.engine, requests))
    expected = started.runner.run(theirs())
    assert [(a.text, a.output_tokens, a.prompt_tokens) for a in answers] == [
        (a.text, a.output_tokens, a.prompt_tokens) for a in expected
    ]
    assert sum(read_answer(answer.text)[1] is Status.OK for answer in answers) >= 62


def test_the_image_that_is_too_narrow_fails_alone(started: Started):
    good = draw_requests(4)
    narrow = [replace(good[0], image=np.zeros(shape, np.uint8)) for shape in ((1, 300, 3), (300, 1, 3))]

    async def together() -> list[Any]:
        return await asyncio.gather(*(ask(started.engine, r) for r in (*good, *narrow)), return_exceptions=True)

    done = started.runner.run(together())
    assert [isinstance(one, RequestFailed) for one in done] == [False] * 4 + [True] * 2
    assert "Error" in str(done[-1])
    assert started.runner.run(ask(started.engine, good[0])) == done[0]


def test_warm_answers_follow_their_seed(started: Started):
    warm = [replace(draw_requests(1)[0], temperature=1.5, seed=seed) for seed in (1, 2, 3, 4, 1)]
    texts = [answer.text for answer in started.runner.run(ask_all(started.engine, warm))]
    assert texts[0] == texts[4]
    assert len(set(texts)) > 1


def children() -> set[int]:
    """The processes below this one."""
    return {child.pid for child in psutil.Process().children(recursive=True)}


def name_of(pid: int) -> str:
    """What a process is called; nothing for one that has ended, also if nobody took notice yet."""
    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return ""


def test_a_killed_engine_takes_its_requests_along_and_starts_again():
    requests = draw_requests(12)
    before = children()

    async def live() -> None:
        engine = make()
        await engine.start()
        expected = [answer.text for answer in await ask_all(engine, requests)]
        tasks = [asyncio.create_task(engine.answer(request)) for request in requests]
        await asyncio.sleep(0.05)
        for process in children() - before:
            os.kill(process, signal.SIGKILL)
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)
        died = [one for one in done if isinstance(one, EngineDied)]
        assert died
        assert all(isinstance(one, EngineDied) or one.text for one in done)
        with pytest.raises(EngineDied):
            await engine.answer(requests[0])
        await engine.close()
        await engine.start()
        assert [answer.text for answer in await ask_all(engine, requests)] == expected
        tasks = [asyncio.create_task(engine.answer(request)) for request in requests]
        await asyncio.sleep(0.05)
        await asyncio.wait_for(engine.close(), 15)
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 15)
        assert all(isinstance(one, EngineDied) or one.text for one in done)
        assert not [name for name in map(name_of, children() - before) if "VLLM" in name]

    asyncio.run(live())


# How it starts, with a builder that stands for vLLM's


def arguments(**changed: Any) -> dict[str, Any]:
    config = AnnotateConfig(**{**SETTINGS, "max_num_seqs": 64, **changed})
    return engine_arguments(config, DEMO_MODEL, {}, on_cpu=False)


def test_out_of_memory_it_asks_for_less_and_then_for_fewer():
    tried = []

    def build(given: Any) -> str:
        tried.append((given["gpu_memory_utilization"], given["max_num_seqs"]))
        if len(tried) < 5:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return "engine"

    engine, given = start_within_memory(build, arguments())
    assert engine == "engine"
    assert tried == [(0.9, 64), (0.85, 64), (0.8, 64), (0.8, 32), (0.8, 16)]
    assert given["max_num_seqs"] == 16


def test_with_nothing_left_to_give_it_says_so():
    def build(_given: Any) -> str:
        raise RuntimeError("CUDA out of memory")

    with pytest.raises(MissingSoftwareError, match="does not fit into the memory here .*out of memory"):
        start_within_memory(build, arguments())


def test_what_will_never_start_is_a_fault_of_the_settings():
    def build(_given: Any) -> str:
        raise ValueError("Model architectures ['Nonesuch'] are not supported for now")

    with pytest.raises(ConfigError, match=r"\['Nonesuch'\] are not supported"):
        start_within_memory(build, arguments())


def test_an_engine_option_that_vllm_lacks_is_named():
    engine = make(engine_options='{"quantisation": "fp8"}')
    with pytest.raises(ConfigError, match="vLLM has no argument 'quantisation'; did you mean 'quantization'"):
        asyncio.run(engine.start())


def test_a_gpu_build_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch):
    from vllm.platforms import current_platform

    monkeypatch.setattr(type(current_platform), "is_cpu", lambda _self: False)
    with pytest.raises(MissingSoftwareError, match="finds no GPU here: ask for one, or use --engine transformers"):
        asyncio.run(make().start())


def test_hot_answers_keep_to_the_schema(started: Started):
    """At this temperature the tiny LVLM rambles; the grammar keeps the form, whatever is said."""
    hot = [replace(r, temperature=2.0, seed=n) for n, r in enumerate(draw_requests(16))]
    bound = [replace(request, grammar=True) for request in hot]

    def well_formed(requests: Sequence[Request]) -> int:
        answers = started.runner.run(ask_all(started.engine, requests))
        ended = [answer for answer in answers if answer.finish is Finish.STOP]
        assert ended
        return sum(read_answer(a.text)[1] not in (Status.NOT_JSON, Status.WRONG_SHAPE) for a in ended) - len(ended)

    assert well_formed(bound) == 0
    assert well_formed(hot) < 0
