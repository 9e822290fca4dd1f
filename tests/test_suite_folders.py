"""A folder of sets as CLIP_benchmark has them stands for a suite, wherever a suite is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import EvaluateConfig, PlanEvaluationConfig
from hqclip.cycle import plan_evaluation
from hqclip.cycle.plan import resolve_suite
from hqclip.errors import NotFoundError
from hqclip.evaluate import stage
from hqclip.evaluate.importing import command
from hqclip.evaluate.importing.folders import find_suite
from hqclip.evaluate.suite import read_suite
from hqclip.store import Store, open_store
from hqclip.train.model import HQClip
from tests import published_sets as published

Draw = Callable[[int], bytes]
ALL = {"sets": (), "skip_missing": False}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def sets(tmp_path: Path, scene_jpeg: Draw) -> Path:
    published.clip_benchmark(tmp_path / "sets/wds_cars_test", scene_jpeg)
    published.clip_retrieval(tmp_path / "sets/mine", scene_jpeg)
    (tmp_path / "sets/README.txt").write_text("about the sets\n")
    return tmp_path / "sets"


def test_a_folder_of_sets_is_one_suite(store: Store, sets: Path):
    found = resolve_suite(store, f"{sets}/", ALL)
    suite = read_suite(found.uri)
    assert found.uri.startswith(f"{store.uri}/suites/")
    assert (suite.digest, [one.name for one in suite.benchmarks]) == (found.digest, ["cars", "mine"])


def test_one_set_is_a_suite(store: Store, sets: Path):
    assert [one.name for one in read_suite(find_suite(store, f"{sets}/wds_cars_test")).benchmarks] == ["cars"]


def test_a_folder_with_a_suite_in_it_is_that_suite(store: Store, sets: Path):
    made = find_suite(store, str(sets))
    assert find_suite(store, made.removesuffix("/suite.json")) == made == find_suite(store, made)


def test_the_folder_is_imported_once_and_again_when_it_has_changed(
    store: Store, sets: Path, monkeypatch: pytest.MonkeyPatch, scene_jpeg: Draw
):
    first = find_suite(store, str(sets))
    with monkeypatch.context() as patch:
        patch.setattr(command, "run", None)
        assert find_suite(store, str(sets)) == first
    published.clip_retrieval(sets / "mine", scene_jpeg, captions=3)
    second = find_suite(store, str(sets))
    assert second != first
    assert read_suite(second).digest != read_suite(first).digest


def test_an_import_that_was_cut_short_goes_on_with_the_sets_that_are_missing(
    store: Store, sets: Path, monkeypatch: pytest.MonkeyPatch
):
    run, names = command.run, []

    def once(config: Any) -> Any:
        names.append(config.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        return run(config)

    monkeypatch.setattr(command, "run", once)
    with pytest.raises(KeyboardInterrupt):
        find_suite(store, str(sets))
    find_suite(store, str(sets))
    assert names == ["cars", "mine", "mine"]


def test_what_is_no_suite_is_said_with_what_would_be_one(store: Store, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"empty has neither suite.json nor sets as CLIP_benchmark has them"):
        find_suite(store, f"{tmp_path}/empty")


def test_a_model_is_judged_by_a_folder_and_a_pipeline_plans_the_same_suite(store: Store, sets: Path):
    HQClip("shapes", [0.5]).export(Path(store.uri) / "runs/m/model")
    asked = PlanEvaluationConfig(store=store.uri, model="runs/m/model", suite=str(sets), preset="demo")
    planned = plan_evaluation.run(asked)["settings"]["evaluate"]["suite"]
    judged = [
        stage.run(EvaluateConfig(store=store.uri, model="runs/m/model", suite=suite, resamples=100))
        for suite in (str(sets), planned)
    ]
    assert judged[0]["evaluation"] == judged[1]["evaluation"]
    assert (judged[0]["already_done"], judged[1]["already_done"]) == (False, True)
    assert {"cars_acc1", "mine_text_to_image_r1"} <= set(judged[0]["metrics"])
    with pytest.raises(NotFoundError, match="has no set 'imagenet'"):  # before a GPU is asked for
        resolve_suite(store, planned, {"sets": ("imagenet",), "skip_missing": False})
