"""A server of OpenAI's protocol as an engine: what is sent, what is tried again, what is told when it goes wrong."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hqclip.annotate.engines import http_server
from hqclip.annotate.engines.openai import OpenAIEngine, data_uri
from hqclip.annotate.engines.protocol import (
    Answer,
    EngineBusy,
    EngineDied,
    Finish,
    Request,
    Unanswered,
)
from hqclip.annotate.prompt import PROMPTS
from hqclip.backoff import pauses
from hqclip.config import AnnotateConfig
from hqclip.demo.scenes import draw_scene, render
from hqclip.errors import AccessError, ConfigError, UnavailableError
from tests.fakes.openai_server import FakeOpenAI

PROMPT = PROMPTS["shapes-1"]


def drawn() -> Request:
    rng = np.random.default_rng(5072)
    return Request("0" * 32, np.array(render(draw_scene(rng), rng)), "a picture")


REQUEST = drawn()


def engine_of(server: str, model: str = "teacher") -> OpenAIEngine:
    return OpenAIEngine(AnnotateConfig(store="s", pool="p", engine="openai", server=server), PROMPT, model)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeOpenAI]:
    monkeypatch.setattr(http_server, "pauses", lambda tries: pauses(tries, first_s=0.001))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FakeOpenAI() as server:
        yield server


def with_openai(server: str, use: Callable[[OpenAIEngine], Awaitable[Any]], model: str = "teacher") -> Any:
    """What `use` makes of a started engine."""

    async def run() -> Any:
        engine = engine_of(server, model)
        await engine.start()
        try:
            return await use(engine)
        finally:
            await engine.close()

    return asyncio.run(run())


def asked_about(text: str, **changes: Any) -> Callable[[OpenAIEngine], Awaitable[Answer]]:
    return lambda engine: engine.answer(replace(REQUEST, alt_text=text, **changes))


def test_a_request_says_all_that_decides_the_answer(fake: FakeOpenAI):
    answer = with_openai(fake.url, asked_about("a red circle", temperature=0.5, seed=7, grammar=True))
    (asked,) = fake.asked
    assert {name: asked.body[name] for name in ("model", "temperature", "seed", "max_tokens")} == {
        "model": "teacher",
        "temperature": 0.5,
        "seed": 7,
        "max_tokens": 400,
    }
    assert asked.body["response_format"]["json_schema"]["schema"] == PROMPT.schema
    assert asked.body["response_format"]["json_schema"]["strict"] is True
    assert asked.alt_text == "a red circle"
    assert asked.body["messages"][0]["content"] == [{"type": "text", "text": "annotate"}]
    assert "Authorization" not in asked.headers
    assert (answer.prompt_tokens, answer.cached_tokens) == (40, 32)


def test_a_small_picture_arrives_with_every_pixel_and_a_large_one_as_a_good_jpeg(fake: FakeOpenAI):
    large = np.kron(REQUEST.image, np.ones((8, 8, 1), np.uint8))
    with_openai(fake.url, asked_about("small"))
    with_openai(fake.url, asked_about("large", image=large))
    small, big = fake.asked
    assert small.media_type == "image/png"
    assert np.array_equal(small.image, REQUEST.image)
    assert big.media_type == "image/jpeg"
    assert np.abs(big.image.astype(int) - large).mean() < 2
    assert len(data_uri(large)) < large.size / 4


@pytest.mark.parametrize(
    "faults", [[("status", 500)] * 2, [("status", 429)], [("cut", 200)], [("junk", 200)], [("drop", 200)]]
)
def test_what_passes_is_tried_again(fake: FakeOpenAI, faults: list[tuple[str, int]]):
    for kind, status in faults:
        fake.fault("circle", kind, status)
    assert with_openai(fake.url, asked_about("a circle")).finish is Finish.STOP
    assert len(fake.asked) == len(faults) + 1


def test_a_server_that_says_when_to_come_back_is_obeyed(fake: FakeOpenAI):
    fake.fault("circle", "status", 429, headers={"Retry-After": "1"})
    with_openai(fake.url, asked_about("a circle"))
    first, second = fake.asked
    assert second.at - first.at >= 1


@pytest.mark.parametrize("status", [429, 503, 529])
def test_a_server_with_too_much_to_do_is_busy(fake: FakeOpenAI, status: int):
    fake.fault("circle", "status", status, times=1000)
    with pytest.raises(EngineBusy, match=f"HTTP {status}: told to fail"):
        with_openai(fake.url, asked_about("a circle"))
    assert len(fake.asked) == http_server.TRIES


@pytest.mark.parametrize(
    ("kind", "more", "words"),
    [
        *(("status", {"status": status}, f"HTTP {status}: told to fail") for status in (408, 500, 502, 504, 520)),
        ("cut", {}, "."),
        ("drop", {}, "."),
        ("junk", {}, "cannot be read .*not what you think"),
        ("choice", {"reply": {"message": None}}, "cannot be read"),
        ("choice", {"reply": {"finish_reason": "abort"}}, "gave the answer up"),
    ],
)
def test_a_request_that_always_fails_is_unanswered(fake: FakeOpenAI, kind: str, more: dict[str, Any], words: str):
    fake.fault("circle", kind, times=1000, **more)
    with pytest.raises(Unanswered, match=words) as caught:
        with_openai(fake.url, asked_about("a circle"))
    assert len(fake.asked) == http_server.TRIES
    assert not caught.value.denied


def test_a_server_that_wants_long_pauses_is_not_waited_for_inside_of_the_engine(
    fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch
):
    """Else a request could take longer than an answer may, and a busy server would look like a dead engine."""
    monkeypatch.setattr(http_server, "WAIT_S", 0.5)
    fake.fault("circle", "status", 503, times=1000, headers={"Retry-After": "1"})
    with pytest.raises(EngineBusy, match="HTTP 503"):
        with_openai(fake.url, asked_about("a circle"))
    assert len(fake.asked) == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 413, 422])
def test_a_server_that_denies_a_request_is_sure_of_it(fake: FakeOpenAI, status: int):
    """Whether of this one or of all, as when a balance is used up, others tell."""
    fake.fault("circle", "status", status, message="the prompt is too long " * 1000)
    with pytest.raises(Unanswered, match=f"HTTP {status}: the prompt is too long") as caught:
        with_openai(fake.url, asked_about("a circle"))
    assert caught.value.denied
    assert len(str(caught.value)) <= http_server.WHY
    assert len(fake.asked) == 1


def test_a_server_that_is_gone_is_a_dead_engine(fake: FakeOpenAI):
    async def ask_nobody(engine: OpenAIEngine) -> None:
        fake.fault("circle", "drop")
        fake.__exit__()
        await asked_about("a circle")(engine)

    with pytest.raises(EngineDied, match="Connect"):
        with_openai(fake.url, ask_nobody)


def test_giving_up_hangs_up(fake: FakeOpenAI):
    fake.fault("circle", "hang")

    async def give_up(engine: OpenAIEngine) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await asked_about("a circle")(engine)
        assert await asyncio.to_thread(fake.hung_up.acquire, timeout=600)
        assert (await asked_about("a square")(engine)).finish is Finish.STOP

    with_openai(fake.url, give_up)


def test_closing_does_not_wait_for_a_server_that_hangs(fake: FakeOpenAI):
    fake.fault("circle", "hang", times=3)

    async def close(engine: OpenAIEngine) -> list[Any]:
        tasks = [asyncio.create_task(asked_about("a circle")(engine)) for _ in range(3)]
        while len(fake.asked) < 3:
            await asyncio.sleep(0.01)
        await engine.close()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in with_openai(fake.url, close)] == [EngineDied] * 3


@pytest.mark.parametrize(
    ("reply", "text", "finish"),
    [
        ({"message": {"content": None, "refusal": "I'm sorry, no."}}, "I'm sorry, no.", Finish.REFUSED),
        ({"message": {"content": [{"type": "refusal", "refusal": "No."}]}}, "No.", Finish.REFUSED),
        ({"message": {"content": ""}, "finish_reason": "SAFETY"}, "", Finish.REFUSED),
        ({"message": {"content": "it is", "refusal": None}, "finish_reason": "max_tokens"}, "it is", Finish.LENGTH),
        ({"message": {"content": None}}, "", Finish.STOP),
        ({"message": {"content": [{"type": "text", "text": "a"}, "b"]}}, "ab", Finish.STOP),
        ({"message": {"content": [{"type": "thinking", "thinking": []}, {"text": "a"}]}}, "a", Finish.STOP),
        ({"message": {"content": {"tags": ["a"]}}}, '{"tags": ["a"]}', Finish.STOP),
        ({"message": {"content": None, "reasoning_content": "{}"}}, "{}", Finish.STOP),
        ({"message": {"content": "", "reasoning": "{}"}}, "{}", Finish.STOP),
        ({"message": {"content": "\n\n", "reasoning_content": "{}"}}, "{}", Finish.STOP),
        ({"message": {"content": "a", "reasoning_content": "b"}}, "a", Finish.STOP),
        ({"message": {"content": {"type": "text", "text": "a"}}}, "a", Finish.STOP),
        ({"message": {"content": [None, {"type": "text", "text": {"value": "a"}}]}}, "a", Finish.STOP),
        ({"message": {"content": None, "tool_calls": [{"function": {"arguments": "{}"}}]}}, "{}", Finish.STOP),
        ({"message": {"content": "", "tool_calls": [{"function": {"arguments": {"a": 1}}}]}}, '{"a": 1}', Finish.STOP),
        ({"message": {"content": " ", "function_call": {"arguments": "{}"}}}, "{}", Finish.STOP),
        ({"message": {"content": "a", "tool_calls": [{"function": {"arguments": "{}"}}]}}, "a", Finish.STOP),
        ({"message": {"content": "a a a"}, "finish_reason": "repetition"}, "a a a", Finish.REPETITION),
        ({"message": {"content": "it is"}, "finish_reason": "content_filter"}, "it is", Finish.REFUSED),
    ],
)
def test_answers_end_in_several_ways(fake: FakeOpenAI, reply: dict[str, Any], text: str, finish: Finish):
    fake.fault("circle", "choice", reply=reply)
    answer = with_openai(fake.url, asked_about("a circle"))
    assert (answer.text, answer.finish) == (text, finish)


def test_an_answer_that_the_server_gave_up_is_asked_for_again(fake: FakeOpenAI):
    fake.fault("circle", "choice", reply={"finish_reason": "abort"})
    assert with_openai(fake.url, asked_about("a circle")).finish is Finish.STOP
    assert len(fake.asked) == 2


def test_the_key_of_the_environment_opens_the_server(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch):
    fake.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\n")
    assert with_openai(fake.url, asked_about("a circle")).finish is Finish.STOP


@pytest.mark.parametrize("key", ["", "sk-wrong"])
def test_a_wrong_key_is_found_at_the_start_and_never_told(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch, key: str):
    fake.key = "sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(AccessError, match="does not let us in .*HTTP 401.*set OPENAI_API_KEY") as caught:
        with_openai(fake.url, asked_about("a circle"))
    assert "sk-wrong" not in str(caught.value)


def test_a_key_of_several_words_is_refused_without_repeating_it(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "my key")
    with pytest.raises(AccessError, match="OPENAI_API_KEY is not one word") as caught:
        with_openai(fake.url, asked_about("a circle"))
    assert "my key" not in str(caught.value)


def test_a_model_that_the_server_has_not_is_found_at_the_start(fake: FakeOpenAI):
    with pytest.raises(ConfigError, match=r"127.0.0.1:\d+ has no model 'pupil'; it has teacher"):
        with_openai(fake.url, asked_about("a circle"), model="pupil")
    assert not fake.asked


def test_a_server_that_does_not_list_its_models_is_believed(fake: FakeOpenAI):
    fake.fault("/models", "status", 404)
    assert with_openai(fake.url, asked_about("a circle")).finish is Finish.STOP


def test_a_server_that_speaks_something_else_is_refused(fake: FakeOpenAI):
    fake.fault("/models", "junk")
    with pytest.raises(ConfigError, match="does not speak OpenAI's protocol at this address"):
        with_openai(fake.url, asked_about("a circle"))


def test_a_server_that_is_slow_to_come_up_is_waited_for(fake: FakeOpenAI):
    fake.fault("/models", "status", 503, times=2)
    assert with_openai(fake.url, asked_about("a circle")).finish is Finish.STOP


def test_a_server_that_is_not_there_is_unavailable(fake: FakeOpenAI):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(UnavailableError, match="does not answer .* is it running"):
            with_openai(url, asked_about("a circle"))


@pytest.mark.parametrize(
    "server", ["http://10.0.0.7:8000/v1", "http://vllm.models.svc:8000/v1", "HTTP://127.0.0.1.evil.org/v1"]
)
def test_a_key_goes_to_nobody_in_clear_unless_told(monkeypatch: pytest.MonkeyPatch, server: str):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY would go to .* in clear.*--plain-http true") as caught:
        asyncio.run(engine_of(server.lower()).start())
    assert "sk-secret" not in str(caught.value)
    assert http_server.Server(server, 1, plain_http=True)
    assert http_server.Server(server.lower().replace("http:", "https:"), 1)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert http_server.Server(server, 1)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]", "me.localhost"])
def test_this_machine_may_hear_the_key_and_no_proxy_does(monkeypatch: pytest.MonkeyPatch, host: str):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-mine")
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert not http_server.Server(f"http://{host}:8000/v1", 1)._client.trust_env


def test_what_the_server_says_is_harmless_wherever_it_is_shown(fake: FakeOpenAI, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "k3y-of-an-odd-kind")
    fake.fault("circle", "status", 400, message="\x1b[2Jno: k3y-of-an-odd-kind \x1b]0;x\x07\nsk-another1234")
    with pytest.raises(Unanswered) as caught:
        with_openai(fake.url, asked_about("a circle"))
    assert str(caught.value) == "HTTP 400: no: *** ***"
    fake.models = ("\x1b[31mevil",)
    with pytest.raises(ConfigError, match="it has evil$"):
        with_openai(fake.url, asked_about("a circle"))


def test_a_request_that_a_filter_stops_is_refused(fake: FakeOpenAI):
    fake.fault("circle", "error", 400, reply={"error": {"code": "content_filter", "message": "not this"}})
    answer = with_openai(fake.url, asked_about("a circle"))
    assert (answer.finish, answer.text) == (Finish.REFUSED, "HTTP 400: not this")


@pytest.mark.parametrize("server", ["http://", "http://[::1"])
def test_a_server_that_is_no_address_is_refused(fake: FakeOpenAI, server: str):
    with pytest.raises(ConfigError, match="server is not an address"):
        with_openai(server, asked_about("a circle"))


def test_what_is_shown_of_the_server_is_its_host_alone(fake: FakeOpenAI):
    server = fake.url.replace("http://", "http://me:password@") + "?token=hidden"

    async def info() -> Any:
        engine = engine_of(server)
        try:
            return await engine.start()
        finally:
            await engine.close()

    fake.fault("/models", "status", 404)
    shown = asyncio.run(info())
    assert shown.device == f"server 127.0.0.1:{fake.port}"
    assert "password" not in repr(shown)
    assert "hidden" not in repr(shown)


def test_connections_are_used_again(fake: FakeOpenAI):
    async def one_after_the_other(engine: OpenAIEngine) -> None:
        for _ in range(20):
            await engine.answer(REQUEST)

    with_openai(fake.url, one_after_the_other)
    assert fake.connections == 1
