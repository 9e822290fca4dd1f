"""How a teacher is asked: which images, how often, at what price, and what is kept of the answers."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.protocol import EngineBusy, RequestFailed
from hqclip.annotate.lvlm import UNKNOWN
from hqclip.config import DistillConfig
from hqclip.distill import ask, ledger, stage
from hqclip.distill.ask import Asking, Manners, Purse
from hqclip.distill.collect import Lessons, collect, open_distilling, pupil_settings
from hqclip.distill.draw import Pictures, Place, draw
from hqclip.distill.gate import Figures, compare, judge, rouge_l, set_f1
from hqclip.distill.ledger import Ledger, Reply
from hqclip.errors import (
    ConfigError,
    ConflictError,
    DataError,
    MissingSoftwareError,
    TerminatedError,
    UnavailableError,
)
from hqclip.records import FIELDS, Annotation, Pool, Status
from hqclip.store import Store, open_store
from tests.distilling import World
from tests.fakes.engines import ScriptedEngine, said

MANNERS = Manners(in_flight=2, timeout_s=5.0, busy_s=0.0, max_new_tokens=10, grammar=True)
TEXTS = Annotation(("a red ring",), ("a blue ring",), ("it is red",), ("it is blue",))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), 24)


@pytest.fixture
def store(world: World) -> Store:
    return open_store(world.store)


@pytest.fixture
def places(world: World, store: Store) -> list[Place]:
    return draw(store, pool_of(world, store), 0, 10)


@pytest.fixture
def asked(tmp_path: Path, store: Store, places: list[Place]) -> Callable[..., Ledger]:
    """`asked(engine)`: ask it about ten images; the ledger, read anew from the store."""

    def run(engine: ScriptedEngine, manners: Manners = MANNERS) -> Ledger:
        notes, pictures = open_store(str(tmp_path / "notes")), Pictures(store, UNKNOWN, 256, str)
        try:
            asyncio.run(Asking(engine, Ledger(notes, "t"), pictures, manners).run("ask", places))
        finally:
            written = Ledger(notes, "t")
        return written

    return run


def pool_of(world: World, store: Store) -> Pool:
    return Pool.from_json(store.read(world.pool), world.pool)


def lessons_of(config: DistillConfig) -> Lessons:
    """The first step of `distill` alone."""
    store = open_store(config.store)
    pupil = Annotator.of(pupil_settings(config, config.model))
    drawn = draw(store, Pool.from_json(store.read(config.pool), ""), config.seed, config.samples + config.held_out)
    pictures = Pictures.of(store, pupil, config.max_alt_tokens)
    return collect(config, store, pictures, drawn, open_distilling(config, store, pupil))


def test_a_larger_draw_begins_with_the_smaller_one_and_another_seed_draws_others(world: World, store: Store) -> None:
    pool = pool_of(world, store)
    few, many, others = draw(store, pool, 0, 6), draw(store, pool, 0, 20), draw(store, pool, 1, 6)
    assert many[:6] == few != others
    assert {place.shard for place in few} == {entry.key for entry in pool.shards}


def test_a_pool_with_too_few_images_says_how_many_there_are(world: World, store: Store) -> None:
    with pytest.raises(DataError, match="has 24 different images, 25 are wanted"):
        draw(store, pool_of(world, store), 0, 25)


def test_the_same_picture_twice_is_drawn_once(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(world, store)
    twice = replace(pool, shards=(pool.shards[0], pool.shards[0]))
    drawn = draw(store, twice, 0, pool.shards[0].rows)
    assert len({place.sha256 for place in drawn}) == len(drawn) == 12


def test_an_image_that_is_not_the_one_of_the_index_is_refused(store: Store, places: list[Place]) -> None:
    pictures = Pictures(store, UNKNOWN, 256, str)
    with pytest.raises(DataError, match="is not the one that was indexed"):
        pictures.read(replace(places[0], offset=places[1].offset))


def test_every_answer_is_kept_with_its_fault_or_its_texts(asked: Callable[..., Ledger], places: list[Place]) -> None:
    script: dict[str, Any] = {
        places[0].text: [said("no JSON")],
        places[1].text: [RequestFailed("too large")],
        places[2].text: [said(json.dumps({name: ["größe"] for name in FIELDS} | {"desc": ["x"]}))],
    }
    replies = asked(ScriptedEngine(script)).replies
    assert [replies[place.sha256].status for place in places[:4]] == ["not_json", "engine_error", "ok", "ok"]
    assert [replies[place.sha256].answer for place in places[:3]] == ["no JSON", "too large", ""]
    assert replies[places[2].sha256].annotation == Annotation(("größe",), ("größe",), ("x",), ("größe",))


def test_what_is_on_record_is_not_asked_again(asked: Callable[..., Ledger]) -> None:
    first, again = ScriptedEngine(), ScriptedEngine()
    assert asked(first).replies == asked(again).replies
    assert (len(first.asked), len(again.asked), again.starts) == (10, 0, 0)
    assert first.most_inside <= MANNERS.in_flight


def test_an_answer_that_never_comes_is_counted(asked: Callable[..., Ledger], places: list[Place]) -> None:
    replies = asked(ScriptedEngine(hangs=[places[0].uid]), replace(MANNERS, timeout_s=0.05)).replies
    assert [reply.status for reply in replies.values()].count(Status.TIMED_OUT) == 1
    assert len(replies) == 10


def test_an_engine_that_was_busy_is_asked_again(
    asked: Callable[..., Ledger], places: list[Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "MAX_WAIT_S", 0.0)
    engine = ScriptedEngine({places[0].text: [EngineBusy("later"), said()]})
    assert len(asked(engine, replace(MANNERS, busy_s=0.01)).replies) == 10
    assert len(engine.asked) == 11


def test_an_engine_that_stays_busy_ends_the_command_and_what_came_is_kept(
    asked: Callable[..., Ledger], places: list[Place]
) -> None:
    with pytest.raises(UnavailableError, match="too busy for 0 s .* the same command goes on from here"):
        asked(ScriptedEngine({places[6].text: [EngineBusy("later")]}))
    again = ScriptedEngine()
    assert len(asked(again).replies) == 10
    assert places[6].text in [request.alt_text for request in again.asked]
    assert len(again.asked) < 6


def test_an_engine_that_dies_ends_the_command_and_what_came_is_kept(
    asked: Callable[..., Ledger], places: list[Place]
) -> None:
    with pytest.raises(UnavailableError, match="the engine is gone"):
        asked(ScriptedEngine(killers=[places[6].uid]))
    again = ScriptedEngine()
    assert len(asked(again).replies) == 10
    assert len(again.asked) < 6


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(asked: Callable[..., Ledger]) -> None:
    purse = Purse(budget_usd=85e-6, input_usd=1.0, output_usd=1.0)  # an answer costs 5 + 7 tokens, at most 5 + 10
    engine, again = ScriptedEngine(), ScriptedEngine()
    with pytest.raises(ConfigError, match=r"0.0001 of 8.5e-05 USD are spent.*6 of 10 images are answered"):
        asked(engine, replace(MANNERS, purse=purse))
    assert len(engine.asked) == 6, "the seventh might cost 15, and 72 are spent"
    asked(again, replace(MANNERS, purse=replace(purse, budget_usd=1.0)))
    assert len(again.asked) == 4


def test_a_command_that_is_told_to_stop_keeps_what_came(
    asked: Callable[..., Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(ask.Termination):
        @property
        def asked(self) -> bool:
            return True

        @asked.setter
        def asked(self, _: bool) -> None: ...

    monkeypatch.setattr(ask, "Termination", Told)
    with pytest.raises(TerminatedError, match="the answers in t are kept"):
        asked(ScriptedEngine())
    monkeypatch.undo()
    again = ScriptedEngine()
    assert len(asked(again).replies) == 10
    assert len(again.asked) < 10


def test_parts_are_written_as_answers_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PART_ROWS", 2)
    notes = open_store(str(tmp_path))
    book = Ledger(notes, "t")
    for number in range(5):
        book.add(Reply(f"{number:032x}", f"{number:064x}", Status.OK, TEXTS, 3, 4))
    assert len(list(notes.list("t/"))) == 2
    assert len(Ledger(notes, "t").replies) == 4
    book.flush()
    assert Ledger(notes, "t").replies == book.replies


def test_two_that_write_one_ledger_do_not_overwrite_each_other(tmp_path: Path) -> None:
    books = [Ledger(open_store(str(tmp_path)), "t") for _ in range(2)]
    for number, book in enumerate(books):
        book.add(Reply(f"{number:032x}", f"{number:064x}", Status.OK, TEXTS))
    books[0].flush()
    with pytest.raises(ConflictError):
        books[1].flush()


def test_the_answer_to_learn_is_compact_and_in_the_published_order() -> None:
    wanted = '{"tags":["a red ring"],"neg_tags":["a blue ring"],"desc":["it is red"],"neg_desc":["it is blue"]}'
    assert ledger.said(TEXTS) == wanted
    assert "größe" in ledger.said(replace(TEXTS, tags=("größe",)))


def test_the_teacher_is_asked_over_http_and_more_samples_ask_only_what_is_new(tmp_path: Path) -> None:
    world = World(tmp_path, 24)
    with world.school() as school:
        lessons = lessons_of(world.settings(school.url))
        assert (len(lessons.learn), len(lessons.judge), lessons.statuses) == (12, 4, {"ok": 16})
        for lesson in (*lessons.learn, *lessons.judge):
            texts = json.loads(world.answers[lesson.place.text])
            assert lesson.reply.annotation == Annotation(**{name: tuple(texts[name]) for name in FIELDS})
        assert not {x.place.sha256 for x in lessons.learn} & {x.place.sha256 for x in lessons.judge}
        more = lessons_of(world.settings(school.url, samples=18, usd_per_million_input=1.0))
        assert (len(more.learn), len(school.asked)) == (18, 22)
        assert more.judge == lessons.judge
        assert more.usd == pytest.approx(22 * 40e-6)


def test_a_server_that_is_down_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hqclip.annotate.engines import openai as openai_engine

    monkeypatch.setattr(openai_engine, "FIRST_PAUSE_S", 0.001)
    world = World(tmp_path, 24)
    with pytest.raises(UnavailableError, match="does not answer"):
        lessons_of(world.settings("http://127.0.0.1:9/v1"))


def test_a_teacher_whose_answers_cannot_be_used_teaches_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 24)
    world.answers = dict.fromkeys(world.answers, "I would rather not")
    with (
        world.school() as school,
        pytest.raises(DataError, match=r"16 of 16 answers of the teacher cannot be used \(not_json 16\)"),
    ):
        lessons_of(world.settings(school.url))


def test_a_pupil_that_sees_no_images_is_refused_before_anything_is_asked(tmp_path: Path, world: World) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    with world.school() as school:
        with pytest.raises(ConfigError, match="which sees no images"):
            stage.run(world.settings(school.url, model=str(tmp_path)))
        assert school.asked == []


def test_without_the_extra_nothing_is_paid_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    monkeypatch.delitem(sys.modules, "hqclip.distill.lora", raising=False)
    with world.school() as school:
        with pytest.raises(MissingSoftwareError, match="install hqclip with its extra `distill`"):
            stage.run(world.settings(school.url))
        assert school.asked == []


def test_a_folder_that_holds_something_else_is_left_alone(world: World, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConflictError, match="is not what this lesson makes"):
        stage.run(world.settings("http://127.0.0.1:9/v1", out=str(tmp_path)))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("given", [{"server": ""}, {"teacher_engine": "replay"}])
def test_a_teacher_that_lacks_what_it_needs_is_refused_before_any_work(given: dict[str, Any]) -> None:
    settings = {"store": "no/such/store", "pool": "p", "teacher": "t", "server": "http://host/v1", **given}
    with pytest.raises(ConfigError, match="engine needs (server|recording)"):
        stage.run(DistillConfig(**settings))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"budget_usd": 5.0}, "budget_usd needs prices"),
        ({"batch_size": 16, "micro_batch": 3}, "micro_batch is 3, which does not divide batch_size 16"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        DistillConfig(**{"store": "s", "pool": "p", "teacher": "t", "server": "http://host/v1", **given})


def test_tags_agree_whatever_their_order_and_case() -> None:
    assert set_f1(("red ring", "grass"), ("Grass.", "red  ring")) == 1.0
    assert set_f1(("a", "b"), ("b", "c")) == 0.5
    assert set_f1(("a",), ("b",)) == 0.0


def test_sentences_agree_by_the_words_they_share_in_order() -> None:
    assert rouge_l(("a red ring",), ("a blue ring",)) == pytest.approx(4 / 6)
    assert rouge_l(("a b", "c d"), ("a b c d",)) == 1.0
    assert rouge_l(("a b",), ("b a",)) == 0.5
    assert rouge_l(("a",), ("b",)) == 0.0


def test_an_invalid_answer_agrees_in_nothing_and_vain_negatives_are_counted() -> None:
    teacher = Reply("0", "0", Status.OK, TEXTS)
    vain = replace(teacher, annotation=replace(TEXTS, neg_tags=("A red ring.",)))
    fault = Reply("0", "0", Status.NOT_JSON)
    figures = compare([teacher, teacher], [vain, fault])
    assert (figures.valid, figures.tag_f1, figures.neg_tag_f1, figures.desc_f1) == (0.5, 0.5, 0.0, 0.5)
    assert figures.negatives_equal_positives == 0.5
    assert figures.agreement == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("valid", "agreement", "margin", "accepted"),
    [(1.0, 0.6, 0.0, True), (0.98, 0.9, 0.0, False), (1.0, 0.4, 0.0, False), (1.0, 0.45, 0.1, True)],
)
def test_the_gate_wants_valid_answers_and_no_less_agreement(
    valid: float, agreement: float, margin: float, accepted: bool
) -> None:
    def figures(valid: float, share: float) -> Figures:
        return Figures(valid, share, share, share, share, 0.0)

    verdict, reason = judge(figures(1.0, 0.5), figures(valid, agreement), 0.99, margin)
    assert verdict is accepted
    assert f"agrees with the teacher by {agreement:.1%}, before 50.0%" in reason
