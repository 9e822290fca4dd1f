"""An evaluation that is killed anywhere, limited, or asked for on a suite of which a part was judged before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.cycle.trials import read_evaluation
from hqclip.data.outcomes import read_outcomes
from hqclip.errors import DataError
from hqclip.evaluate import stage
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.judging import parts_of
from hqclip.evaluate.suite import Suite, SuiteSet, check, limited, read_suite
from hqclip.records import Evaluation, Sample
from hqclip.store import open_store
from tests.clips import write_clip
from tests.fakes.cut_short import Killed, cut_short
from tests.suites import add

CLASSES, TEMPLATES = ("a ring", "a square", "a cross"), ("{}", "a photo of {}.")


@pytest.fixture(autouse=True)
def made_by_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    """When and by which settings an evaluation was made is another matter than what it says."""
    monkeypatch.setattr(stage, "made_by", lambda name, *_: {"stage": name})


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> Path:
    """A model and a suite of four sets, of which two ask about the same images and two have the same classes."""
    folder = tmp_path_factory.mktemp("world")
    write_clip(folder / "runs/m/model")
    store = open_store(str(folder / "suite"))
    few, many = draw_samples(4), draw_samples(9, first=20)
    of_few, of_many = (tuple(sample.uid for sample in samples) for samples in (few, many))
    for name, uids, samples in (("b", of_few, few), ("c", of_many, many)):
        labels = tuple(place % 3 for place in range(len(uids)))
        add(store, samples, Classification(name, CLASSES, TEMPLATES, uids, labels, ("all",) * len(uids)))
    add(store, few, Retrieval("a", of_few, (["one", "two"], "three", "four", "five")))
    false = tuple(f"false {place}" for place in range(5))
    add(store, many, Choice("d", of_many[:5], tuple("vwxyz"), false, ("p", "q", "p", "q", "p")))
    return folder


@pytest.fixture(scope="module")
def clip(world: Path) -> ExportedClip:
    return ExportedClip(open_store(str(world)), "runs/m/model", threads=1)


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch, clip: ExportedClip) -> None:
    """The real model, but loaded once."""
    monkeypatch.setattr(stage, "ExportedClip", lambda *args: clip)


def config_of(world: Path, store: Path, **more: Any) -> EvaluateConfig:
    given = {"suite": f"{world}/suite/suite.json", "batch_size": 4, "resamples": 100, **more}
    return EvaluateConfig(store=str(store), model="runs/m/model", **given)


def files(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


@pytest.mark.slow
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_operation_of_the_store_it_ends_as_if_nothing_had_been(world: Path, tmp_path: Path, after: bool):
    with pytest.MonkeyPatch.context() as patch:
        operations = cut_short(patch, 0, Killed())
        stage.run(config_of(world, tmp_path / "whole"))
    wanted = files(tmp_path / "whole")
    assert (
        operations.count("write") == 4 * 2 + 1 + 4
    )  # two a set, one classifier for both, the evaluation and its examples
    for number in range(1, len(operations) + 1):
        config = config_of(world, tmp_path / f"killed-{number}")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            cut_short(patch, number, Killed(), after=after)
            stage.run(config)
        stage.run(config)
        assert files(tmp_path / f"killed-{number}") == wanted, f"killed at {number}, {operations[number - 1]}"
        shutil.rmtree(tmp_path / f"killed-{number}")


def test_what_was_judged_before_the_kill_is_not_embedded_again(
    world: Path, tmp_path: Path, clip: ExportedClip, monkeypatch: pytest.MonkeyPatch
):
    """The sets with the most images come first, those that share images together."""
    assert [
        [one.benchmark.name for one in part.sets] for part in parts_of(read_suite(f"{world}/suite/suite.json"))
    ] == [
        ["c", "d"],
        ["a", "b"],
    ]
    seen: list[int] = []
    image_batches, text_batches = ExportedClip.image_batches, ExportedClip.text_batches

    def images(self: ExportedClip, *args: Any) -> Any:
        for image_BD in image_batches(self, *args):
            seen.append(len(image_BD))
            yield image_BD

    monkeypatch.setattr(ExportedClip, "image_batches", images)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):

        def none_of_b(self: ExportedClip, asked: Any) -> Any:
            if "one" in asked:
                raise Killed
            return text_batches(self, asked)

        patch.setattr(ExportedClip, "text_batches", none_of_b)
        stage.run(config_of(world, tmp_path))
    assert seen == [4, 4, 1, 4]
    stage.run(config_of(world, tmp_path))
    assert seen == [4, 4, 1, 4, 4]


def test_a_set_that_was_judged_in_another_suite_is_taken_from_there(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stage.run(config_of(world, tmp_path / "whole"))
    stage.run(config_of(world, tmp_path / "parts", sets=("c", "d")))
    stage.run(config_of(world, tmp_path / "parts", sets=("a", "b")))
    monkeypatch.delattr(ExportedClip, "image_batches")
    stage.run(config_of(world, tmp_path / "parts"))
    whole, parts = files(tmp_path / "whole"), files(tmp_path / "parts")
    assert whole == {name: parts[name] for name in whole}


def test_what_a_model_reads_as_one_text_is_counted_and_said(
    world: Path, tmp_path: Path, draw_samples: Callable[..., list[Sample]], caplog: pytest.LogCaptureFixture
):
    """Captions that differ behind the 77 tokens of this model are no fault of its eyes; another model may read on."""
    few, long = draw_samples(4), " and a ring" * 40
    uids = tuple(sample.uid for sample in few)
    captions = tuple(f"{name}{long}" for name in "abcd")
    true, false = tuple(f"{text} on red" for text in captions), tuple(f"{text} on blue" for text in captions)
    suite = open_store(str(tmp_path / "suite"))
    add(suite, few, Choice("long", uids, true, (*false[:2], "c", ("d", false[3])), ("all",) * 4))
    add(suite, few, Choice("short", uids, tuple("abcd"), tuple("wxyz"), ("all",) * 4))
    add(suite, few, Matching("pairs", uids, (true[0], false[0], true[2], true[3]), ("all",) * 2))
    add(suite, few, Retrieval("shared", uids, (true[0], "b", false[0], "d")))
    add(suite, few, Classification("named", true, ("{}", "a {}"), uids, (0, 1, 2, 3), ("all",) * 4))
    add(suite, few, Classification("twice", (true[0], false[0], "c"), ("{}", "a {}"), uids, (0, 1, 2, 0), ("all",) * 4))
    config = config_of(world, tmp_path / "store", suite=f"{tmp_path}/suite/suite.json")
    for again in (False, True):
        caplog.clear()
        done = stage.run(config)
        assert done["already_done"] is again
        counted = {name: value for name, value in done["metrics"].items() if name.endswith("_same_text")}
        shares = {"long": 3 / 4, "pairs": 1 / 2, "shared": 1 / 4, "twice": 1 / 3}
        assert counted == {f"{name}_same_text": pytest.approx(share) for name, share in shares.items()}
        told = [record.message for record in caplog.records if record.levelname == "WARNING"]
        assert [message.partition(":")[0] for message in told] == list(shares)
        assert (
            "of its items 75.00% are one text with what they are to be told from to the tokenizer of runs/m" in told[0]
        )
        assert done["reason"].endswith("; its tokenizer cannot tell apart what long, pairs, shared and twice ask")


def test_a_few_captions_that_two_images_share_are_counted_without_a_warning(
    world: Path, tmp_path: Path, draw_samples: Callable[..., list[Sample]], caplog: pytest.LogCaptureFixture
):
    samples = draw_samples(2)
    captions = [[f"{image} {number}" for number in range(20)] for image in range(2)]
    captions[1][0] = "0 0"
    add(open_store(str(tmp_path / "suite")), samples, Retrieval("coco", tuple(s.uid for s in samples), tuple(captions)))
    done = stage.run(config_of(world, tmp_path / "store", suite=f"{tmp_path}/suite/suite.json"))
    assert done["metrics"]["coco_same_text"] == 1 / 40
    assert [record.levelname for record in caplog.records if "one text" in record.message] == ["INFO"]
    assert "tokenizer" not in done["reason"]


def test_a_slip_of_a_whole_set_does_not_keep_a_smoke_run_from_it(world: Path, tmp_path: Path):
    store = open_store(str(tmp_path / "suite"))
    samples = read_suite(f"{world}/suite/suite.json").benchmarks[0].uids
    false = ("A ", *(f"x{place}" for place in range(199)))
    quiz = Choice("few", (samples[0],) * 200, ("a",) * 200, false, ("all",) * 200)
    check(quiz, "here")
    assert limited(Suite("s", "", store, (SuiteSet(quiz, "", ()),)), 10).benchmarks[0].first(1).uids == samples[:1]


def test_the_size_of_batches_changes_no_answer(world: Path, tmp_path: Path):
    answers = set()
    for size in (1, 3, 256):
        done = stage.run(config_of(world, tmp_path / str(size), batch_size=size))
        answers.add(json.dumps([done["average"], done["metrics"]], sort_keys=True))
    assert len(answers) == 1


def test_a_smoke_run_is_never_taken_for_the_whole(world: Path, tmp_path: Path):
    store = open_store(str(tmp_path))
    smoke = stage.run(config_of(world, tmp_path, limit=3))
    record = Evaluation.from_json(store.read(smoke["evaluation"]), "")
    assert record.limit == 3 and {score.items for score in record.benchmarks} == {3}
    assert smoke["evaluation"].endswith(".first-3.json") and "3 items of each set of small" in smoke["reason"]
    whole = stage.run(config_of(world, tmp_path))
    assert whole["already_done"] is False
    judged = read_evaluation(store, whole["evaluation"])
    assert judged.limit is None and b"limit" not in store.read(whole["evaluation"])
    assert judged.suite_digest == read_suite(f"{world}/suite/suite.json").digest != record.suite_digest
    assert [score.items for score in judged.benchmarks] == [4, 4, 9, 5]
    with pytest.raises(DataError, match="is of a smoke run with 3 items of each set, which decides nothing"):
        read_evaluation(store, smoke["evaluation"])
    with pytest.raises(DataError, match="small with a limit of 1 items a set, benchmark a: "):
        stage.run(config_of(world, tmp_path, limit=1))


def test_a_limit_takes_items_from_all_over(world: Path):
    suite = read_suite(f"{world}/suite/suite.json")
    benchmark = suite.benchmarks[2]
    assert isinstance(benchmark, Classification)
    assert benchmark.first(3).labels == tuple(benchmark.labels[place] for place in (0, 3, 6))
    assert benchmark.first(3).classes == CLASSES
    assert benchmark.first(9) == benchmark.first(100) == benchmark
    assert replace(benchmark, domains=("x",) * 9).first(2).domains == ("x", "x")


def test_a_kept_classifier_that_is_damaged_is_named(world: Path, tmp_path: Path):
    stage.run(config_of(world, tmp_path, sets=("b",)))
    (kept,) = tmp_path.rglob("classifiers/*.safetensors")
    kept.write_bytes(kept.read_bytes()[:50])
    with pytest.raises(DataError, match=rf"classifiers/{kept.name} is damaged .*; delete it and run `evaluate` again"):
        stage.run(config_of(world, tmp_path, sets=("c",)))


def test_what_was_cut_short_with_other_answers_holds_no_evaluation_up(world: Path, tmp_path: Path):
    """As on a GPU, where the same model may answer one question otherwise the next time."""
    whole = stage.run(config_of(world, tmp_path))
    store = open_store(str(tmp_path))
    wanted = Evaluation.from_json(store.read(whole["evaluation"]), "")
    left = [key for key in store.list("evaluations/") if key.endswith((".outcomes.parquet", ".confusion.json"))]
    for key in left:
        store.write(key, b"other answers", create_only=False)
        store.delete(key.replace(".outcomes.parquet", ".json").replace(".confusion.json", ".json"))
    again = stage.run(config_of(world, tmp_path))
    record = Evaluation.from_json(store.read(again["evaluation"]), "")
    assert again["already_done"] is False and record.outcomes != wanted.outcomes
    assert replace(record, outcomes=wanted.outcomes) == wanted
    assert read_outcomes(store, record.outcomes, record.outcomes_crc32c).score("d/accuracy") >= 0
    assert len(left) == 6 and all(
        store.read(key) == b"other answers" for key in left if key.endswith(".outcomes.parquet")
    )  # who judges at the same time still names them
    assert b"other" not in store.read(again["confusion"])
    store.delete(again["evaluation"])
    assert stage.run(config_of(world, tmp_path))["average"] == whole["average"]  # from the sets as they are now
