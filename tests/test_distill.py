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

from hqclip.annotate import supervisor
from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.protocol import EngineBusy, Finish, RequestFailed, Unanswered
from hqclip.annotate.lvlm import UNKNOWN
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.supervisor import Limits
from hqclip.backoff import pauses
from hqclip.distill import query, response_log, stage
from hqclip.distill.acceptance import Agreement, compare, decide, rouge_l, set_f1
from hqclip.distill.collect import Collected, collect, open_folder, pupil_settings
from hqclip.distill.config import DistillConfig
from hqclip.distill.pool_images import ImageRef, PoolImages
from hqclip.distill.query import BatchQuery, Budget, RequestLimits
from hqclip.distill.response_log import Response, ResponseLog
from hqclip.distill.sampling import sample
from hqclip.distill.training_set import completion
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

LIMITS = RequestLimits(in_flight=2, patience=Limits(timeout_s=5.0, busy_s=0.0, max_restarts=0), max_new_tokens=10)
TEXTS = Annotation(("a red ring",), ("a blue ring",), ("it is red",), ("it is blue",))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"), 24)


@pytest.fixture
def store(world: World) -> Store:
    return open_store(world.store)


@pytest.fixture
def refs(world: World, store: Store) -> list[ImageRef]:
    return sample(store, pool_of(world, store), 0, 10)


@pytest.fixture
def asked(tmp_path: Path, store: Store, refs: list[ImageRef]) -> Callable[..., ResponseLog]:
    """`asked(engine)`: ask it about ten images; the log, read anew from the store."""

    def run(engine: ScriptedEngine, limits: RequestLimits = LIMITS) -> ResponseLog:
        notes, images = open_store(str(tmp_path / "notes")), PoolImages(store, Preparation(UNKNOWN, 256, str))
        try:
            query = BatchQuery(engine, ResponseLog(notes, "t"), images, limits, grammar=True)
            asyncio.run(query.run("ask", refs))
        finally:
            written = ResponseLog(notes, "t")
        return written

    return run


def pool_of(world: World, store: Store) -> Pool:
    return Pool.from_json(store.read(world.pool), world.pool)


def collected_by(config: DistillConfig) -> Collected:
    """The first step of `distill` alone."""
    store = open_store(config.store)
    pupil = Annotator.of(pupil_settings(config, config.model))
    drawn = sample(store, Pool.from_json(store.read(config.pool), ""), config.seed, config.samples + config.held_out)
    images = PoolImages(store, Preparation.of(pupil, config.max_alt_tokens))
    return collect(config, store, images, drawn, open_folder(config, store, pupil))


def test_a_larger_draw_begins_with_the_smaller_one_and_another_seed_draws_others(world: World, store: Store) -> None:
    pool = pool_of(world, store)
    few, many, others = (
        sample(store, pool, 0, 6),
        sample(store, pool, 0, 20),
        sample(store, pool, 1, 6),
    )
    assert many[:6] == few != others
    assert {ref.shard for ref in few} == {entry.key for entry in pool.shards}


def test_a_pool_with_too_few_images_says_how_many_there_are(world: World, store: Store) -> None:
    with pytest.raises(DataError, match="has 24 different images, 25 are wanted"):
        sample(store, pool_of(world, store), 0, 25)


def test_the_same_picture_twice_is_drawn_once(world: World, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = pool_of(world, store)
    twice = replace(pool, shards=(pool.shards[0], pool.shards[0]))
    drawn = sample(store, twice, 0, pool.shards[0].rows)
    assert len({ref.sha256 for ref in drawn}) == len(drawn) == 12


def test_an_image_that_is_not_the_one_of_the_index_is_refused(store: Store, refs: list[ImageRef]) -> None:
    images = PoolImages(store, Preparation(UNKNOWN, 256, str))
    with pytest.raises(DataError, match="is not the one that was indexed"):
        images.read(replace(refs[0], offset=refs[1].offset))


def test_every_answer_is_kept_with_its_fault_or_its_texts(
    asked: Callable[..., ResponseLog], refs: list[ImageRef]
) -> None:
    script: dict[str, Any] = {
        refs[0].text: [said("no JSON")],
        refs[1].text: [RequestFailed("too large")],
        refs[2].text: [said(json.dumps({name: ["größe"] for name in FIELDS} | {"desc": ["x"]}))],
    }
    responses = asked(ScriptedEngine(script)).responses
    assert [responses[ref.sha256].status for ref in refs[:4]] == ["not_json", "engine_error", "ok", "ok"]
    assert [responses[ref.sha256].answer for ref in refs[:3]] == ["no JSON", "too large", ""]
    assert responses[refs[2].sha256].annotation == Annotation(("größe",), ("größe",), ("x",), ("größe",))


def test_what_is_on_record_is_not_asked_again(asked: Callable[..., ResponseLog]) -> None:
    first, again = ScriptedEngine(), ScriptedEngine()
    assert asked(first).responses == asked(again).responses
    assert (len(first.asked), len(again.asked), again.starts) == (10, 0, 0)
    assert first.most_inside <= LIMITS.in_flight


def test_an_answer_that_never_comes_is_counted(asked: Callable[..., ResponseLog], refs: list[ImageRef]) -> None:
    responses = asked(ScriptedEngine(hangs=[refs[0].uid]), replace(LIMITS, patience=Limits(timeout_s=0.5))).responses
    assert [response.status for response in responses.values()].count(Status.TIMED_OUT) == 1
    assert len(responses) == 10


def test_an_engine_that_was_busy_is_asked_again(
    asked: Callable[..., ResponseLog], refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "pause_s", lambda _: 0.001)
    engine = ScriptedEngine({refs[0].text: [EngineBusy("later"), said()]})
    assert len(asked(engine, replace(LIMITS, patience=Limits())).responses) == 10
    assert len(engine.asked) == 11


def test_an_engine_that_stays_busy_ends_the_command_and_what_came_is_kept(
    asked: Callable[..., ResponseLog], refs: list[ImageRef]
) -> None:
    def until_there_are_enough(_: Any) -> Any:
        return said() if len(engine.asked) < 6 else EngineBusy("later")

    engine = ScriptedEngine(default=until_there_are_enough)
    with pytest.raises(UnavailableError, match=r"answered nobody for 0 s \(later\).*the same command continues"):
        asked(engine)
    again = ScriptedEngine()
    assert len(asked(again).responses) == 10
    assert len(again.asked) < 7


def test_an_image_at_which_the_teacher_fails_for_good_is_a_row(
    asked: Callable[..., ResponseLog], refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "pause_s", lambda _: 0.001)
    engine = ScriptedEngine({refs[6].text: [Unanswered("HTTP 500: no")]}, killers=[refs[2].uid])
    responses = asked(engine, replace(LIMITS, patience=Limits())).responses
    assert [responses[ref.sha256].status for ref in refs].count(Status.OK) == 8
    assert responses[refs[6].sha256].answer == "this image alone is not answered: HTTP 500: no"
    assert "died 3 times" in responses[refs[2].sha256].answer


def test_a_teacher_that_goes_in_circles_or_refuses_is_named_as_in_annotate(
    asked: Callable[..., ResponseLog], refs: list[ImageRef]
) -> None:
    scripts = {refs[0].text: [said(finish=Finish.REPETITION)], refs[1].text: [said("I", Finish.REFUSED)]}
    responses = asked(ScriptedEngine(scripts)).responses
    assert [responses[ref.sha256].status for ref in refs[:3]] == [Status.REPEATED, Status.REFUSED, Status.OK]


def test_an_engine_that_dies_ends_the_command_and_what_came_is_kept(
    asked: Callable[..., ResponseLog], refs: list[ImageRef]
) -> None:
    with pytest.raises(UnavailableError, match="the engine died 1 times"):
        asked(ScriptedEngine(killers=[refs[6].uid]))
    again = ScriptedEngine()
    assert len(asked(again).responses) == 10
    assert len(again.asked) < 6


def test_a_budget_is_never_exceeded_and_a_larger_one_goes_on(asked: Callable[..., ResponseLog]) -> None:
    budget = Budget(limit_usd=85e-6, input_usd=1.0, output_usd=1.0)  # an answer costs 5 + 7 tokens, at most 5 + 10
    engine, again = ScriptedEngine(), ScriptedEngine()
    with pytest.raises(ConfigError, match=r"0.0001 of 8.5e-05 USD are spent.*6 of 10 images are answered"):
        asked(engine, replace(LIMITS, budget=budget))
    assert len(engine.asked) == 6, "the seventh might cost 15, and 72 are spent"
    asked(again, replace(LIMITS, budget=replace(budget, limit_usd=1.0)))
    assert len(again.asked) == 4


def test_a_command_that_is_told_to_stop_keeps_what_came(
    asked: Callable[..., ResponseLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Told(query.Termination):
        @property
        def asked(self) -> bool:
            return True

        @asked.setter
        def asked(self, _: bool) -> None: ...

    monkeypatch.setattr(query, "Termination", Told)
    with pytest.raises(TerminatedError, match="the answers in t are kept"):
        asked(ScriptedEngine())
    monkeypatch.undo()
    again = ScriptedEngine()
    assert len(asked(again).responses) == 10
    assert len(again.asked) < 10


def test_parts_are_written_as_answers_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_log, "PART_ROWS", 2)
    notes = open_store(str(tmp_path))
    log = ResponseLog(notes, "t")
    for number in range(5):
        log.add(Response(f"{number:032x}", f"{number:064x}", Status.OK, TEXTS, 3, 4))
    assert len(list(notes.list("t/"))) == 2
    assert len(ResponseLog(notes, "t").responses) == 4
    log.flush()
    assert ResponseLog(notes, "t").responses == log.responses


def test_two_that_write_one_log_do_not_overwrite_each_other(tmp_path: Path) -> None:
    logs = [ResponseLog(open_store(str(tmp_path)), "t") for _ in range(2)]
    for number, log in enumerate(logs):
        log.add(Response(f"{number:032x}", f"{number:064x}", Status.OK, TEXTS))
    logs[0].flush()
    with pytest.raises(ConflictError):
        logs[1].flush()


def test_the_answer_to_learn_is_compact_and_in_the_published_order() -> None:
    wanted = '{"tags":["a red ring"],"neg_tags":["a blue ring"],"desc":["it is red"],"neg_desc":["it is blue"]}'
    assert completion(TEXTS) == wanted
    assert "größe" in completion(replace(TEXTS, tags=("größe",)))


def test_the_teacher_is_asked_over_http_and_more_samples_ask_only_what_is_new(tmp_path: Path) -> None:
    world = World(tmp_path, 24)
    with world.school() as school:
        found = collected_by(world.settings(school.url))
        assert (len(found.learn), len(found.judge), found.statuses) == (12, 4, {"ok": 16})
        for example in (*found.learn, *found.judge):
            texts = json.loads(world.answers[example.image.text])
            assert example.response.annotation == Annotation(**{name: tuple(texts[name]) for name in FIELDS})
        assert not {x.image.sha256 for x in found.learn} & {x.image.sha256 for x in found.judge}
        more = collected_by(world.settings(school.url, samples=18, usd_per_million_input=1.0))
        assert (len(more.learn), len(school.asked)) == (18, 22)
        assert more.judge == found.judge
        assert more.usd == pytest.approx(22 * 40e-6)


def test_a_server_that_is_down_is_worth_another_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hqclip.annotate.engines import http_server

    monkeypatch.setattr(http_server, "pauses", lambda tries: pauses(tries, first_s=0.001))
    world = World(tmp_path, 24)
    with pytest.raises(UnavailableError, match="does not answer"):
        collected_by(world.settings("http://127.0.0.1:9/v1"))


def test_a_teacher_whose_answers_cannot_be_used_teaches_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, 24)
    world.answers = dict.fromkeys(world.answers, "I would rather not")
    with (
        world.school() as school,
        pytest.raises(DataError, match=r"16 of 16 answers of the teacher cannot be used \(not_json 16\)"),
    ):
        collected_by(world.settings(school.url))


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
    teacher = Response("0", "0", Status.OK, TEXTS)
    vain = replace(teacher, annotation=replace(TEXTS, neg_tags=("A red ring.",)))
    fault = Response("0", "0", Status.NOT_JSON)
    figures = compare([teacher, teacher], [vain, fault])
    assert (figures.valid, figures.tag_f1, figures.neg_tag_f1, figures.desc_f1) == (0.5, 0.5, 0.0, 0.5)
    assert figures.negatives_equal_positives == 0.5
    assert figures.mean == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("valid", "agreement", "margin", "accepted"),
    [(1.0, 0.6, 0.0, True), (0.98, 0.9, 0.0, False), (1.0, 0.4, 0.0, False), (1.0, 0.45, 0.1, True)],
)
def test_the_gate_wants_valid_answers_and_no_less_agreement(
    valid: float, agreement: float, margin: float, accepted: bool
) -> None:
    def figures(valid: float, share: float) -> Agreement:
        return Agreement(valid, share, share, share, share, 0.0)

    verdict, reason = decide(figures(1.0, 0.5), figures(valid, agreement), 0.99, margin)
    assert verdict is accepted
    assert f"agrees with the teacher by {agreement:.1%}, before 50.0%" in reason
