"""The examples that `evaluate` keeps are what the model really answered, and pages show them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hqclip import cli
from hqclip.clip import ExportedClip
from hqclip.config import DemoWorldConfig, EvaluateConfig
from hqclip.data.images import decode
from hqclip.data.outcomes import read_outcomes
from hqclip.demo.world import make_world
from hqclip.evaluate import examples
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.pictures import embed_images
from hqclip.evaluate.stage import run
from hqclip.evaluate.suite import Suite, read_suite, write_suite
from hqclip.records import Evaluation
from hqclip.report.gallery import pixels
from hqclip.store import Store, open_store
from hqclip.train.model import HQClip
from tests.clips import ALONE


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    """The demo's suite and a set of pairs."""
    world = make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=16))
    drawn = read_suite(world["suite"])
    folder = tmp_path_factory.mktemp("suite")
    (folder / "images.tar").write_bytes(drawn.store.read("images.tar"))
    retrieval = next(one for one in drawn.benchmarks if one.KIND == "retrieval")
    pairs = Matching("pairs", tuple(retrieval.uids[:8]), tuple(retrieval.texts()["captions"][:8]), ("swap", "turn") * 2)
    write_suite(open_store(str(folder)), "shapes", "images.tar", [*drawn.benchmarks, pairs])
    return read_suite(f"{folder}/suite.json")


@pytest.fixture(scope="module")
def judged(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, list[Evaluation]]:
    """Two models that know nothing, and what became of them."""
    store = open_store(str(tmp_path_factory.mktemp("store")))
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        HQClip("shapes", [0.5]).export(Path(store.uri) / f"runs/m{seed}/model")
        said = run(EvaluateConfig(store=store.uri, model=f"runs/m{seed}/model", suite=f"{suite.store.uri}/suite.json"))
        found.append(Evaluation.from_json(store.read(said["evaluation"]), ""))
    return store, found


def kept(store: Store, evaluation: Evaluation) -> dict[str, Any]:
    return dict(json.loads(store.read(evaluation.examples)))


def test_classes_are_counted_as_they_were_judged(judged: tuple[Store, list[Evaluation]]):
    store, (evaluation, _) = judged
    classes = kept(store, evaluation)["sets"]["classification"]["classes"]
    score = next(one for one in evaluation.benchmarks if one.name == "classification")
    assert sum(images for _, images, _ in classes) == score.items == 16
    recall = sum(found / images for _, images, found in classes) / len(classes)
    assert recall == pytest.approx(score.metrics["mean_per_class_recall"])


def test_every_example_was_answered_wrongly_and_its_pictures_are_there(
    judged: tuple[Store, list[Evaluation]], suite: Suite
):
    store, (evaluation, _) = judged
    found = kept(store, evaluation)
    clip = ExportedClip(store, evaluation.model)
    images = embed_images(clip, suite, 16, lambda _: None, None, ALONE)

    def score(uid: str, text: str) -> float:
        return float(images[uid] @ clip.texts([text])[0])

    choices = found["sets"]["composition"]["examples"]
    assert choices and all(score(one["image"], one["true"]) <= score(one["image"], one["false"]) for one in choices)
    for one in found["sets"]["pairs"]["examples"]:
        (a, b), (true_a, true_b) = one["images"], one["captions"]
        own = min(score(a, true_a), score(b, true_b))
        assert own <= max(score(a, true_b), score(b, true_a))
    uids = next(one for one in suite.benchmarks if one.KIND == "retrieval").uids
    queries = found["sets"]["retrieval"]["examples"]
    assert queries
    for one in queries:
        ranked = sorted(uids, key=lambda uid: -score(uid, one["query"]))
        assert (one["top"], one["rank"]) == (ranked[:5], ranked.index(one["right"]) + 1) and one["rank"] > 1
    for picture in found["pictures"].values():
        size = pixels(base64.b64decode(picture))
        assert size and max(size) <= examples.SIDE and decode(base64.b64decode(picture)).any()
    shown = {uid for one in queries for uid in [*one["top"], one["right"]]} | {one["image"] for one in choices}
    assert shown <= set(found["pictures"])


def test_how_many_were_wrong_is_what_the_outcomes_say(judged: tuple[Store, list[Evaluation]]):
    store, (evaluation, _) = judged
    outcomes = read_outcomes(store, evaluation.outcomes, evaluation.outcomes_crc32c)
    sets = kept(store, evaluation)["sets"]
    for name, metric in (("composition", "accuracy"), ("pairs", "group_score"), ("retrieval", "text_to_image_r1")):
        values = outcomes.values[f"{name}/{metric}"]
        assert (sets[name]["items"], sets[name]["wrong"]) == (len(values), int((values == 0).sum()))


def test_every_kind_of_fault_has_its_turn(judged: tuple[Store, list[Evaluation]]):
    store, (evaluation, _) = judged
    groups = {one["group"] for one in kept(store, evaluation)["sets"]["composition"]["examples"]}
    assert len(groups) == 5


def test_pictures_are_bounded(
    judged: tuple[Store, list[Evaluation]], suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    store, (evaluation, _) = judged
    monkeypatch.setattr(examples, "MAX_PICTURES", 24)
    sets, target = kept(store, evaluation)["sets"], open_store(str(tmp_path))
    examples.write_examples(target, evaluation.examples, suite, sets)
    bounded = kept(target, evaluation)
    assert 0 < len(bounded["pictures"]) <= 24
    assert all(one["examples"] for one in bounded["sets"].values() if "examples" in one)


def page_of(store: Store, evaluations: list[Evaluation], to: Path) -> str:
    keys = [f"evaluations/{one.model_digest}/{one.suite_digest}.json" for one in evaluations]
    assert cli.main(["compare", "--store", store.uri, "--runs", ",".join(keys), "--html", str(to)]) == 0
    return to.read_text()


def test_the_page_shows_the_last_model_and_what_moved_against_the_first(
    judged: tuple[Store, list[Evaluation]], tmp_path: Path
):
    store, both = judged
    page = page_of(store, both, tmp_path / "page.html")
    assert "What m2 answered." in page and "Of the items that m2 and m1 both answered" in page
    first, last = (
        read_outcomes(store, one.outcomes, one.outcomes_crc32c).values["composition/accuracy"] for one in both
    )
    assert f"<td>▲ {int((last > first).sum())}</td><td>▼ {int((last < first).sum())}</td>" in page
    assert len(page) < 1_000_000
    alone = page_of(store, both[:1], tmp_path / "alone.html")
    assert "What m1 answered." in alone and "What moved" not in alone


def test_an_evaluation_of_an_older_version_has_no_examples_and_the_page_says_nothing(
    judged: tuple[Store, list[Evaluation]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    store, (evaluation, _) = judged
    content = store.read(evaluation.examples)
    store.delete(evaluation.examples)
    assert "Set by set" not in page_of(store, [evaluation], tmp_path / "page.html")
    assert "examples" not in capsys.readouterr().err
    for damaged in (b"{", b'{"sets": {"x": {}}}', b'{"sets": []}', b'{"sets": {"x": {"kind": "k", "classes": [1]}}}'):
        store.write(evaluation.examples, damaged, create_only=False)
        assert "Set by set" not in page_of(store, [evaluation], tmp_path / "page.html")
        assert "examples.json" in capsys.readouterr().err
    store.write(evaluation.examples, content, create_only=False)
