"""Whatever a server does to single requests, each picture ends with its row; only a server that answers nobody ends it.

The engine, its HTTP and the dispatcher are the real ones, the server is a script, and time is simulated.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx2
import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from hqclip.annotate.dispatcher import Dispatcher
from hqclip.annotate.engines import http_server
from hqclip.annotate.engines.openai import OpenAIEngine
from hqclip.annotate.picture import Picture
from hqclip.annotate.prompt import PROMPTS
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.annotate.supervisor import Limits
from hqclip.config import AnnotateConfig
from hqclip.errors import AccessError, UnavailableError
from hqclip.records import AnnotatedRow, Status
from tests.fakes.engines import GOOD
from tests.simulated import raised, simulated

IMAGE = np.zeros((32, 32, 3), np.uint8)
LIMITS = Limits(timeout_s=300.0, ready_s=600.0, busy_s=600.0, max_restarts=10)
Reply = Callable[[], Any]  # makes a response, raises, or is awaited for ever


def status(number: int, headers: Mapping[str, str] | None = None, **error: Any) -> Reply:
    said = {"error": {"message": "told to fail", **error}}
    return lambda: httpx2.Response(number, json=said, headers=headers)


def body(content: bytes) -> Reply:
    return lambda: httpx2.Response(200, content=content)


def reply(**document: Any) -> Reply:
    return body(json.dumps(document).encode())


def choice(finish: str = "stop", **message: Any) -> Reply:
    return reply(choices=[{"message": message, "finish_reason": finish}], usage={"prompt_tokens": 1})


def broken(kind: type[httpx2.RequestError]) -> Reply:
    def fail() -> Any:
        raise kind("broken")

    return fail


def hang() -> Any:
    return asyncio.get_running_loop().create_future()


FINE = choice(content=GOOD)
# Every way in which a server can fail one request for good, and what then may be said of the picture.
FAULTS: dict[str, Reply] = {
    **{f"HTTP {number}": status(number) for number in (400, 401, 403, 404, 408, 409, 413, 422, 425, 429, 451)},
    **{f"HTTP {number}": status(number) for number in (301, 500, 501, 502, 503, 504, 520, 529)},
    "come back in a minute": status(429, {"Retry-After": "60"}),
    "come back in a day": status(503, {"Retry-After": "86400"}),
    "filtered": status(400, code="content_filter"),
    "page": body(b"<html>Bad gateway</html>"),
    "nothing": body(b""),
    "binary": body(b"\xff\x00\xfe"),
    "deep": body(b"[" * 100_000),
    "null": body(b"null"),
    "list": body(b"[]"),
    "no choice": reply(choices=[]),
    "error with 200": reply(error={"message": "upstream failed", "code": 502}),
    "no message": reply(choices=[{"finish_reason": "stop"}]),
    "odd parts": choice(content=[1, None]),
    "aborted": choice(finish="abort", content=""),
    "odd usage": reply(choices=[{"message": {"content": "no"}}], usage={"prompt_tokens": 1e400}),
    "empty": choice(content=""),
    "refused": choice(content=None, refusal="No."),
    "dropped": broken(httpx2.RemoteProtocolError),
    "reset": broken(httpx2.ReadError),
    "undecodable": broken(httpx2.DecodingError),
    "write fails": broken(httpx2.WriteTimeout),
    "hangs": hang,
}
DENIED = [f"HTTP {number}" for number in (301, 400, 401, 403, 404, 413, 422, 451, 501)]
NOT_THE_PICTURES = (Status.OK, Status.UNREADABLE_IMAGE, Status.MISSING)


class Server:
    """Says to each alt-text what its script says, one after the other, the last for ever; to all others `default`.

    Before it answers it takes `delay_s`. From the request numbered `dies_at` on it does the same to everybody.
    """

    def __init__(self, scripts: Mapping[str, Sequence[Reply]], default: Reply = FINE, delay_s: float = 0.5) -> None:
        self.scripts, self.default, self.delay_s = scripts, default, delay_s
        self.asked: dict[str, int] = {}

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(200, json={"data": [{"id": "m"}]})
        text = re.search(
            r"<alt_text>(.*?)</alt_text>", json.loads(request.content)["messages"][1]["content"][1]["text"]
        )
        assert text is not None
        number = self.asked[text[1]] = self.asked.get(text[1], 0) + 1
        await asyncio.sleep(self.delay_s)
        script = self.scripts.get(text[1], [self.default])
        said = script[min(number, len(script)) - 1]()
        return await said if asyncio.isfuture(said) else said


@pytest.fixture(scope="module", autouse=True)
def _no_network() -> Iterator[None]:
    """`annotating` puts a script in the place of the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("OPENAI_API_KEY", raising=False)
        yield


async def annotating(
    server: Server, number: int, window: int = 4, rows: dict[str, AnnotatedRow] | None = None
) -> list[AnnotatedRow]:
    """The rows of so many pictures, each of which was kept once, in order; their alt-texts are their numbers."""
    rows = {} if rows is None else rows

    async def keep(picture: Picture, row: AnnotatedRow) -> None:
        assert row.uid not in rows
        rows[row.uid] = row

    async def source() -> AsyncIterator[Picture]:
        for n in range(number):
            yield Picture(None, f"{n:032x}", IMAGE, f"picture {n}")

    config = AnnotateConfig(store="s", pool="p", engine="openai", server="http://localhost/v1", model="m")
    engine = OpenAIEngine(config, PROMPTS["shapes-1"], "m")
    with pytest.MonkeyPatch.context() as patch:
        client = httpx2.AsyncClient
        transport = httpx2.MockTransport(server)
        patch.setattr(http_server.httpx2, "AsyncClient", lambda **options: client(transport=transport, **options))
        await engine.start()
        try:
            await Dispatcher(engine, RetryPolicy(3, 0.0, "always"), window=window, limits=LIMITS).run(source(), keep)
        finally:
            await engine.close()
    return [rows[uid] for uid in sorted(rows)]


def bad(rows: Sequence[AnnotatedRow]) -> list[int]:
    return [number for number, row in enumerate(rows) if row.status is not Status.OK]


@pytest.mark.parametrize("where", [0, 20, 39], ids=["first", "middle", "last"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_that_always_fails_is_one_row(fault: str, where: int):
    server = Server({f"picture {where}": [FAULTS[fault]]})
    rows, seconds = simulated(annotating(server, 40))
    assert bad(rows) == [where]
    assert rows[where].status not in NOT_THE_PICTURES
    assert rows[where].answer or rows[where].status is Status.TIMED_OUT or fault in ("empty", "hangs")
    assert server.asked[f"picture {where}"] <= 100
    assert seconds < 2000


@pytest.mark.parametrize("fault", FAULTS)
def test_it_is_found_also_when_nobody_else_is_left(fault: str):
    """As after a kill, when the rest of the shard is done: another request shows that the server works."""
    rows, seconds = simulated(annotating(Server({"picture 0": [FAULTS[fault]]}), 1))
    assert bad(rows) == [0]
    assert seconds < 2000


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_answers_nobody_ends_the_stage_and_no_picture_is_blamed(fault: str):
    answered = ("filtered", "odd usage", "empty", "refused")
    if fault in answered:
        rows, _ = simulated(annotating(Server({}, FAULTS[fault]), 12))
        assert len(rows) == 12
        return
    error, seconds = raised(annotating(Server({}, FAULTS[fault]), 12))
    assert isinstance(error, AccessError | UnavailableError), repr(error)
    assert isinstance(error, AccessError) == (fault in DENIED)
    assert "the same command continues" in str(error)
    assert seconds < 3600


@pytest.mark.parametrize("fault", DENIED)
def test_a_server_that_refuses_everybody_from_some_day_on_blames_no_picture(fault: str):
    """A balance is used up, a key runs out, somebody restarts it with another model: nothing is called faulty."""
    scripts = {f"picture {n}": [FINE, FAULTS[fault]] if n < 9 else [FAULTS[fault]] for n in range(40)}
    rows: dict[str, AnnotatedRow] = {}
    error, _ = raised(annotating(Server(scripts, FAULTS[fault]), 40, window=8, rows=rows))
    assert isinstance(error, AccessError), repr(error)
    assert len(rows) == 9 and not bad(list(rows.values()))


@pytest.mark.parametrize("fault", ["HTTP 500", "HTTP 429", "dropped", "page", "hangs", "come back in a minute"])
def test_what_passes_costs_no_row(fault: str):
    """A server that is gone for everybody for a while, then comes back."""
    scripts = {f"picture {n}": [FINE if n < 5 else FAULTS[fault]] * 2 + [FINE] for n in range(20)}
    rows, _ = simulated(annotating(Server(scripts), 20))
    assert bad(rows) == []


def test_a_busy_server_does_not_cost_the_pictures_that_it_kept_waiting():
    """429 says nothing of a picture while others are there: some wait for long, none is given up."""
    scripts = {f"picture {n}": [FAULTS["HTTP 429"]] * (5 * (n % 7)) + [FINE] for n in range(60)}
    rows, _ = simulated(annotating(Server(scripts), 60, window=16))
    assert bad(rows) == []


@settings(max_examples=60, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    st.dictionaries(st.integers(0, 29), st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3), max_size=12),
    st.sets(st.integers(0, 29), max_size=12),
    st.integers(1, 40),
)
def test_every_pool_finishes_unless_nobody_is_answered(script: dict[int, list[str]], heals: set[int], window: int):
    scripts = {
        f"picture {n}": [*(FAULTS[name] for name in names), *([FINE] if n in heals else [])]
        for n, names in script.items()
    }
    rows, seconds = simulated(annotating(Server(scripts), 30, window))
    assert len(rows) == 30
    assert set(bad(rows)) <= set(script)
    assert seconds < 2000 * (1 + len(script))
