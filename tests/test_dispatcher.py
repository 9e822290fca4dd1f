"""How pictures go through an engine that may be slow, wrong, busy or dead: each comes out once, with its row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqclip.annotate import supervisor
from hqclip.annotate.admission import Admission
from hqclip.annotate.dispatcher import Dispatcher
from hqclip.annotate.engines.protocol import EngineBusy, EngineDied, Finish, RequestFailed
from hqclip.annotate.engines.readiness import start_in_time
from hqclip.annotate.picture import Picture
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.annotate.supervisor import Limits, Supervisor
from hqclip.backoff import pause_s
from hqclip.data.sidecar import write_part
from hqclip.errors import MissingSoftwareError, StorageError, UnavailableError
from hqclip.records import AnnotatedRow, ShardEntry, Status
from hqclip.store.local import LocalStore
from tests.fakes.engines import GOOD, ScriptedEngine, said
from tests.simulated import raised, simulated

POLICY = RetryPolicy(attempts=3, temperature=0.0, grammar="always")
IMAGE = np.zeros((16, 16, 3), np.uint8)
SAME = '{"tags": ["a"], "neg_tags": ["b"], "desc": ["an a"], "neg_desc": ["An A."]}'


def pictures(number: int) -> list[Picture]:
    return [Picture(None, f"{n:032x}", IMAGE, f"alt-text {n}") for n in range(number)]


def dispatch(
    engine: ScriptedEngine,
    given: Sequence[Picture],
    *,
    window: int = 8,
    retry_policy: RetryPolicy = POLICY,
    **limits: Any,
) -> tuple[dict[str, AnnotatedRow], Dispatcher]:
    """The rows by uid, each of which was kept once."""
    rows: dict[str, AnnotatedRow] = {}

    async def keep(picture: Picture, row: AnnotatedRow) -> None:
        assert picture.uid == row.uid
        assert row.uid not in rows
        rows[row.uid] = row

    async def source() -> AsyncIterator[Picture]:
        for picture in given:
            yield picture

    async def run() -> Dispatcher:
        await engine.start()
        dispatcher = Dispatcher(engine, retry_policy, window=window, limits=Limits(**limits))
        await asyncio.wait_for(dispatcher.run(source(), keep), 30)
        return dispatcher

    dispatcher = asyncio.run(run())
    return rows, dispatcher


def statuses(rows: dict[str, AnnotatedRow]) -> list[Status]:
    return [rows[uid].status for uid in sorted(rows)]


def test_every_picture_has_one_row_and_the_window_is_full_but_never_too_full():
    engine = ScriptedEngine(delay_s=0.002)
    rows, dispatcher = dispatch(engine, pictures(50), window=8)
    assert statuses(rows) == [Status.OK] * 50
    assert engine.most_inside == 8
    assert dispatcher.counts.in_flight == 0
    assert (dispatcher.counts.requests, dispatcher.counts.output_tokens) == (50, 350)


def test_a_slow_answer_holds_up_nobody():
    engine = ScriptedEngine(hangs=[f"{0:032x}"], delay_s=0.002)
    rows, _ = dispatch(engine, pictures(400), window=2, timeout_s=0.4)
    assert statuses(rows) == [Status.TIMED_OUT] + [Status.OK] * 399
    assert engine.starts == 1
    assert rows[f"{0:032x}"].attempts == 3


def test_a_picture_without_an_image_is_not_asked_about():
    engine = ScriptedEngine()
    broken = Picture(None, f"{7:032x}", None, "alt-text")
    rows, _ = dispatch(engine, [broken])
    assert rows[broken.uid] == AnnotatedRow(broken.uid, Status.UNREADABLE_IMAGE, None, attempts=0)
    assert engine.asked == []


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (said("no JSON"), Status.NOT_JSON),
        (said('{"tags": 1}'), Status.WRONG_SHAPE),
        (said(GOOD.replace('"an a"', '""')), Status.EMPTY),
        (said(GOOD[:-9], Finish.LENGTH), Status.TRUNCATED),
        (said("ring ring ring", Finish.REPETITION), Status.REPEATED),
        (said("I'm sorry, I can't."), Status.REFUSED),
        (said(SAME), Status.NEGATIVE_EQUALS_POSITIVE),
        (said(""), Status.NOT_JSON),
    ],
)
def test_every_fault_is_asked_again_and_counts_only_if_it_stays(first: Any, status: Status):
    rows, _ = dispatch(ScriptedEngine({"alt-text 0": [first, said()]}), pictures(1))
    (row,) = rows.values()
    assert (row.status, row.attempts, row.output_tokens) == (Status.OK, 2, first.output_tokens + 7)
    rows, _ = dispatch(ScriptedEngine({"alt-text 0": [first]}), pictures(1))
    (row,) = rows.values()
    assert (row.status, row.attempts, row.answer) == (status, 3, first.text)


def test_attempts_grow_warmer_with_seeds_of_their_own():
    engine = ScriptedEngine({"alt-text 0": [said("no JSON")]})
    dispatch(engine, pictures(1), retry_policy=RetryPolicy(4, 0.2, "off"))
    assert [request.temperature for request in engine.asked] == [0.2, 0.5, 0.8, 0.8]
    assert len({request.seed for request in engine.asked}) == 4
    again = ScriptedEngine({"alt-text 0": [said("no JSON")]})
    dispatch(again, pictures(1), retry_policy=RetryPolicy(4, 0.2, "off"))
    assert [request.seed for request in again.asked] == [request.seed for request in engine.asked]


def test_who_is_stuck_gets_warmer_faster():
    engine = ScriptedEngine({"alt-text 0": [said("I'm sorry.")]})
    dispatch(engine, pictures(1))
    assert [request.temperature for request in engine.asked] == [0.0, 0.8, 0.8]


def test_on_retry_the_grammar_alone_is_tried_first():
    engine = ScriptedEngine({"alt-text 0": [said("no JSON")]})
    dispatch(engine, pictures(1), retry_policy=RetryPolicy(3, 0.0, "on_retry"))
    assert [(request.grammar, request.temperature) for request in engine.asked] == [
        (False, 0.0),
        (True, 0.0),
        (True, 0.5),
    ]


def test_what_the_engine_refuses_is_not_asked_again():
    engine = ScriptedEngine({"alt-text 1": [RequestFailed("image too narrow")]})
    rows, _ = dispatch(engine, pictures(3))
    assert statuses(rows) == [Status.OK, Status.ENGINE_ERROR, Status.OK]
    assert rows[f"{1:032x}"].answer == "image too narrow"
    assert len(engine.asked) == 3


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (said("A fox \ud83d", Finish.LENGTH), Status.TRUNCATED),
        (said("no \udc00", Finish.REFUSED), Status.REFUSED),
        (RequestFailed("a \udfff"), Status.ENGINE_ERROR),
        (said("no JSON", prompt_tokens=2**31 - 1, output_tokens=2**31 - 1), Status.NOT_JSON),
    ],
)
def test_whatever_is_said_can_be_written_down(tmp_path: Path, first: Any, status: Status):
    """Half an emoji is what a token limit leaves; numbers of tokens are the server's word."""
    rows, _ = dispatch(ScriptedEngine({"alt-text 1": [first]}), pictures(3))
    assert statuses(rows) == [Status.OK, status, Status.OK]
    write_part(LocalStore(tmp_path), "part.parquet", list(rows.values()), ShardEntry("s.tar", "s.idx", 1, 1, rows=3))


def test_an_engine_that_dies_now_and_then_costs_no_row():
    def die_twice(engine: ScriptedEngine) -> Any:
        def answer(request: Any) -> Any:
            if engine.starts < 3:
                engine.die()
            return said()

        return answer

    engine = ScriptedEngine(delay_s=0.001)
    engine.scripts["alt-text 20"] = die_twice(engine)
    rows, dispatcher = dispatch(engine, pictures(60))
    assert statuses(rows) == [Status.OK] * 60
    assert dispatcher.counts.restarts == engine.starts - 1 == 2


def test_the_image_that_kills_engines_is_found_in_three_deaths_and_alone_in_the_end():
    killer = f"{33:032x}"
    engine = ScriptedEngine(killers=[killer], delay_s=0.001)
    rows, dispatcher = dispatch(engine, pictures(100), window=16)
    assert [uid for uid, row in rows.items() if row.status is not Status.OK] == [killer]
    assert rows[killer].status is Status.QUARANTINED
    assert "died 3 times" in rows[killer].answer
    assert dispatcher.counts.restarts == 3
    assert sum(request.uid == killer for request in engine.asked) == 3
    asked_again = 16 + 4  # the first window and one small group
    assert len(engine.asked) <= 100 + asked_again + 3  # and after each start something that was answered before


def test_several_killers_are_all_found():
    killers = [f"{n:032x}" for n in (3, 4, 50)]
    rows, _ = dispatch(ScriptedEngine(killers=killers, delay_s=0.001), pictures(80), window=9)
    assert sorted(uid for uid, row in rows.items() if row.status is Status.QUARANTINED) == killers
    assert statuses(rows).count(Status.OK) == 77


def test_an_engine_that_will_not_live_ends_the_stage():
    engine = ScriptedEngine(killers=[f"{n:032x}" for n in range(40)])
    with pytest.raises(UnavailableError, match="the engine died 4 times within 1000 answers"):
        dispatch(engine, pictures(40), max_restarts=3)


def test_an_engine_that_hangs_is_started_again():
    class HangsFirst(ScriptedEngine):
        async def _answer(self, request: Any) -> Any:
            if self.starts == 1:
                assert self._died is not None
                await asyncio.shield(self._died)
                raise EngineDied("closed")
            return await super()._answer(request)

    engine = HangsFirst()
    rows, dispatcher = dispatch(engine, pictures(20), timeout_s=0.4)
    assert statuses(rows) == [Status.OK] * 20
    assert dispatcher.counts.restarts == 1
    assert dispatcher.counts.deaths == ["nothing was answered for 0 s"]


def test_a_busy_engine_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(supervisor, "pause_s", lambda tried: pause_s(tried, first_s=0.001))
    engine = ScriptedEngine({"alt-text 1": [EngineBusy("429"), EngineBusy("429"), said()]})
    rows, _ = dispatch(engine, pictures(3))
    assert statuses(rows) == [Status.OK] * 3
    assert rows[f"{1:032x}"].attempts == 1


def test_an_engine_that_stays_busy_ends_the_stage():
    engine = ScriptedEngine(default=[EngineBusy("429")])
    with pytest.raises(UnavailableError, match=r"answered nobody for 0 s \(429\)"):
        dispatch(engine, pictures(1), busy_s=0.0)


def test_after_ten_idle_minutes_the_first_refusal_is_no_reason_to_give_up():
    """As of a replica that waited for shards which others held."""

    async def idle_and_ask() -> None:
        engine = ScriptedEngine({"alt-text 1": [EngineBusy("429"), said()]})
        await engine.start()
        supervisor = Supervisor(engine, 4, Limits())
        first, second = pictures(2)
        for picture, idle_s in ((first, 3600.0), (second, 0.0)):
            assert await supervisor.answer(picture, POLICY.request(picture.uid, IMAGE, picture.alt_text)) == said()
            await asyncio.sleep(idle_s)

    _, seconds = simulated(idle_and_ask())
    assert seconds < 3610


def test_killers_do_not_end_a_stage_in_which_others_are_answered():
    killers = [f"{n:032x}" for n in range(5, 120, 10)]
    rows, dispatcher = dispatch(ScriptedEngine(killers=killers), pictures(120))
    assert sorted(uid for uid, row in rows.items() if row.status is Status.QUARANTINED) == killers
    assert statuses(rows).count(Status.OK) == 120 - len(killers)
    assert dispatcher.counts.restarts > Limits().max_restarts


def test_an_engine_that_starts_and_answers_nothing_costs_no_picture_its_place():
    class Mute(ScriptedEngine):
        async def _answer(self, request: Any) -> Any:
            await asyncio.get_running_loop().create_future()

    def ask() -> Any:
        return asyncio.wait_for(_dispatched(Mute(), pictures(6), limits=Limits(max_restarts=4)), 36_000)

    error, seconds = raised(ask())
    assert isinstance(error, UnavailableError)
    assert "died 5 times" in str(error)
    assert seconds < 2000


def test_out_of_memory_half_as_many_are_asked_about_and_then_it_is_said():
    class Small(ScriptedEngine):
        def __init__(self, room: int) -> None:
            super().__init__(delay_s=0.001)
            self.room = room

        async def _answer(self, request: Any) -> Any:
            if self._inside > self.room:
                self.die()
                raise EngineDied("vLLM's engine process is gone: CUDA out of memory. Tried to allocate 2 GiB")
            return await super()._answer(request)

        async def close(self) -> None:
            await super().close()
            await asyncio.sleep(0.02)  # whoever was inside leaves

    rows, dispatcher = dispatch(Small(room=4), pictures(60), window=8)
    assert statuses(rows) == [Status.OK] * 60
    assert dispatcher.counts.restarts == 1
    with pytest.raises(MissingSoftwareError, match="out of memory again with half as many.*lower --max-num-seqs"):
        dispatch(Small(room=3), pictures(60), window=8)


@pytest.mark.parametrize("when", ["at first", "again"])
def test_an_engine_that_is_never_ready_is_not_waited_for_for_ever(when: str):
    class Slow(ScriptedEngine):
        async def start(self) -> Any:
            info = await super().start()
            if when == "at first" or self.starts > 1:
                await asyncio.get_running_loop().create_future()
            return info

    async def run() -> None:
        engine = Slow(killers=[f"{1:032x}"])
        await start_in_time(engine, 600.0)
        await _dispatched(engine, pictures(3), limits=Limits())

    error, seconds = raised(run())
    assert isinstance(error, UnavailableError)
    assert "was not ready after 600 s" in str(error)
    assert 600 <= seconds < 605


async def _dispatched(engine: ScriptedEngine, given: Sequence[Picture], *, limits: Limits) -> None:
    async def keep(_picture: Picture, row: AnnotatedRow) -> None:
        assert row.status is Status.OK

    async def source() -> AsyncIterator[Picture]:
        for picture in given:
            yield picture

    if not engine.starts:
        await engine.start()
    await Dispatcher(engine, POLICY, window=4, limits=limits).run(source(), keep)


def test_a_fault_of_the_store_ends_the_stage_at_once():
    async def keep(_picture: Picture, _row: AnnotatedRow) -> None:
        raise StorageError("disk full")

    async def source() -> AsyncIterator[Picture]:
        for picture in pictures(10):
            yield picture

    async def run() -> None:
        engine = ScriptedEngine()
        await engine.start()
        await Dispatcher(engine, POLICY, window=4, limits=Limits()).run(source(), keep)

    with pytest.raises(StorageError, match="disk full"):
        asyncio.run(run())


def test_suspects_do_not_share_the_engine_with_others():
    async def run() -> list[str]:
        admission, events = Admission(9), []

        async def visit(name: str, strikes: int) -> None:
            await admission.enter(strikes)
            events.append(f"+{name}")
            await asyncio.sleep(0.001)
            events.append(f"-{name}")
            await admission.leave(strikes)
            await admission.clear(strikes)

        one, two = await admission.strike(0), await admission.strike(1)
        await admission.strike(0)
        assert (one, two) == (1, 2)
        await asyncio.gather(visit("new", 0), visit("once", 1), visit("twice", 2))
        return events

    assert asyncio.run(run()) == ["+twice", "-twice", "+once", "-once", "+new", "-new"]
