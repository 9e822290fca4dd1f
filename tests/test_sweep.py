"""What is tried, what a sweep is called, and which of its trials is the best."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig, PlanEvaluationConfig, SelectConfig, SweepConfig
from hqclip.cycle import plan_evaluation, select, sweep
from hqclip.cycle.sweep import read_trials
from hqclip.demo.world import make_world
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.records import Champion, CycleRecord, Evaluation, canonical_json, digest_of
from hqclip.store import Store, open_store
from tests.sweeping import write_version


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    world = make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))
    return str(world["suite"])


def given(tmp_path: Path, suite: str, trials: Any, **more: Any) -> SweepConfig:
    fixed = {"preset": "demo-quick", "dataset": write_version(open_store(str(tmp_path)))}
    return SweepConfig(store=str(tmp_path), suite=suite, trials=json.dumps(trials), **{**fixed, **more})


def test_a_sweep_of_an_older_version_goes_on_though_it_knew_fewer_settings(tmp_path: Path, suite: str) -> None:
    config = given(tmp_path, suite, {"train.seed": [1, 2]})
    path = tmp_path / sweep.run(config)["plan"]
    planned = json.loads(path.read_text())
    path.unlink()
    del planned["settings"]["train"]["max_skipped_steps"]
    older = f"sweeps/{digest_of(planned)}.plan.json"
    (tmp_path / older).write_bytes(canonical_json(planned))
    assert sweep.run(config)["plan"] == older
    other = given(tmp_path, suite, {"train.seed": [1, 2]}, overrides='{"train.max_skipped_steps": 3}')
    assert sweep.run(other)["plan"] != older


def test_a_grid_is_every_combination_with_names_that_say_it() -> None:
    trials = read_trials('{"train.learning_rate": [0.001, 5e-4], "negative_weight": [0.5, 1]}')
    assert [trial["name"] for trial in trials] == [
        *("lr-0.001-neg-0.5", "lr-0.001-neg-1", "lr-0.0005-neg-0.5", "lr-0.0005-neg-1"),
    ]
    assert trials[0]["settings"] == {"learning_rate": 0.001, "negative_weight": 0.5}


def test_a_list_has_its_own_names() -> None:
    text = '[{"name": "plain", "settings": {}}, {"settings": {"train.model": "ViT-B-16", "seed": 3}}]'
    trials = read_trials(text)
    assert [trial["name"] for trial in trials] == ["plain", "model-vit-b-16-seed-3"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "trials is not valid JSON at character 1"),
        ("3", "trials must be"),
        ('{"train.seed": 1}', "train.seed must have a list of values"),
        ('{"train.seed": []}', "train.seed must have a list of values"),
        ('[{"settings": {"seed": 1}, "nmae": "x"}]', "give just name and settings"),
        ('[{"name": "x"}]', "give just name and settings"),
        ('[{"name": "X y", "settings": {}}]', "different names of at most 40 of a-z"),
        ('[{"name": "x", "settings": {}}, {"name": "x", "settings": {"seed": 1}}]', "different names"),
        (json.dumps({"train.seed": list(range(17))}), "give 1 to 16 .* got 17"),
        ("[]", "give 1 to 16 .* got 0"),
    ],
)
def test_points_that_make_no_sense_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_trials(text)


def test_the_same_sweep_has_the_same_name_and_all_is_checked_at_once(tmp_path: Path, suite: str) -> None:
    config = given(tmp_path, suite, {"train.learning_rate": [0.001, 0.002]})
    first, again = sweep.run(config), sweep.run(config)
    assert first == again
    assert first["has_work"] and first["runs"].startswith("sweep-")
    assert first["settings"]["train"]["dataset"] == "datasets/abc/dataset.json"
    assert sweep.run(given(tmp_path, suite, {"train.learning_rate": [0.001, 0.003]}))["plan"] != first["plan"]
    with pytest.raises(ConfigError) as refusal:
        trials = [{"settings": {"learning_rte": 1}}, {"settings": {"batch_size": 1}}]
        sweep.run(given(tmp_path, suite, trials, overrides='{"train.sed": 1, "curate.name": "x"}'))
    said = str(refusal.value)
    assert "unknown setting train.learning_rte; did you mean 'learning_rate'" in said
    assert "train.batch_size is 1; give 2 or more" in said
    assert "unknown setting train.sed" in said and "settings of train and evaluate only" in said


def test_a_point_cannot_be_about_where_it_is_trained(tmp_path: Path, suite: str) -> None:
    with pytest.raises(ConfigError, match="trial store-x: the sweep sets store itself"):
        sweep.run(given(tmp_path, suite, {"train.store": ["x", "y"]}))


def test_an_override_cannot_be_about_what_the_sweep_hands_on(tmp_path: Path, suite: str) -> None:
    overrides = {"train.store": "/elsewhere", "evaluate.suite": "another"}
    with pytest.raises(ConfigError) as refusal:
        sweep.run(given(tmp_path, suite, {"train.seed": [1]}, overrides=json.dumps(overrides)))
    assert str(refusal.value).splitlines() == [
        "override 'train.store': the sweep sets this itself",
        "override 'evaluate.suite': the sweep sets this itself",
    ]


def test_without_a_finished_cycle_the_data_must_be_named(tmp_path: Path, suite: str) -> None:
    with pytest.raises(NotFoundError, match="has no finished cycle; give the data set"):
        sweep.run(given(tmp_path, suite, {"train.seed": [1]}, dataset=""))


def close(store: Store, cycle: int, dataset: str) -> None:
    """A finished cycle that refined this data set."""
    store.write(f"cycles/{cycle:06d}.plan.json", b"{}")
    record = CycleRecord(
        cycle=cycle,
        parent=0,
        fingerprint="f",
        dataset=dataset,
        runs=(),
        candidate="runs/x/model",
        verdict="refused",
        reason="",
        report="",
    )
    store.write(f"cycles/{cycle:06d}.json", record.to_json())


def test_the_same_sweep_keeps_its_data_when_a_newer_cycle_is_done(tmp_path: Path, suite: str) -> None:
    store = open_store(str(tmp_path))
    old, new = write_version(store, "old"), write_version(store, "new")
    close(store, 1, old)
    first = sweep.run(given(tmp_path, suite, {"train.seed": [1]}, dataset=""))
    assert first["dataset"] == old
    assert f"shapes old of cycle 1; --dataset {old} (curate_dataset in a pipeline) repeats it" in first["reason"]
    close(store, 2, new)
    again = sweep.run(given(tmp_path, suite, {"train.seed": [1]}, dataset=""))
    assert (again["plan"], again["dataset"]) == (first["plan"], old)
    assert f"cycle 2 has newer data: give {new} to compare on that" in again["reason"]
    other = sweep.run(given(tmp_path, suite, {"train.seed": [1]}, dataset=new))
    assert other["plan"] != first["plan"] and other["dataset"] == new
    assert f"The same trials on other data, {old}, are sweep {first['notes'].split('/')[1][:16]}" in other["reason"]
    fresh = sweep.run(given(tmp_path, suite, {"train.seed": [2]}, dataset=""))
    assert fresh["dataset"] == new and "newer data" not in fresh["reason"]


def test_data_that_is_not_there_or_too_little_is_refused_before_anything_is_trained(tmp_path: Path, suite: str) -> None:
    with pytest.raises(NotFoundError, match="has no data set datasets/none/dataset.json"):
        sweep.run(given(tmp_path, suite, {"train.seed": [1]}, dataset="datasets/none/dataset.json"))
    few = write_version(open_store(str(tmp_path)), "few", usable_rows=100)
    with pytest.raises(ConfigError) as refusal:
        sweep.run(given(tmp_path, suite, {"train.batch_size": [64, 128, 256]}, dataset=few))
    assert str(refusal.value).splitlines() == [
        f"trial batch-{size}: batch_size {size} is more than the 100 usable samples of {few}; give less"
        for size in (128, 256)
    ]


def test_a_batch_that_does_not_fit_the_ranks_is_refused_trial_by_trial(tmp_path: Path, suite: str) -> None:
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {scheduler: local, nproc: 2}\n")
    with pytest.raises(ConfigError, match="^trial batch-33: batch_size 33 does not divide .* 2 ranks; give 32 or 34$"):
        sweep.run(given(tmp_path, suite, {"train.batch_size": [32, 33]}, launch=str(machines)))


def test_a_model_that_several_ranks_cannot_train_is_refused(tmp_path: Path, suite: str) -> None:
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {scheduler: local, nproc: 2}\n")
    with pytest.raises(ConfigError, match="^model RN101 normalises over the batch, .* each of 2 ranks"):
        sweep.run(given(tmp_path, suite, {"train.model": ["shapes", "RN101"]}, launch=str(machines)))


def test_a_point_that_was_not_judged_is_missed(tmp_path: Path, suite: str) -> None:
    planned = sweep.run(given(tmp_path, suite, {"train.seed": [1, 2, 3]}))
    judged = Evaluation(
        model="runs/000001-hqclip/model",  # the same weights under another name
        model_digest="d",
        suite="s",
        suite_digest="s",
        benchmarks=(),
        average=0.5,
        outcomes="",
    )
    store = open_store(str(tmp_path))
    store.write("evaluations/d/s.json", judged.to_json())
    for seed, digest in ((1, "c"), (2, "d")):
        store.write(f"runs/{planned['runs']}seed-{seed}/result.json", json.dumps({"model_digest": digest}).encode())
    with pytest.raises(DataError, match="no evaluation of seed-1, seed-3; evaluate them on the same suite"):
        select.run(SelectConfig(store=str(tmp_path), plan=planned["plan"], evaluations=("evaluations/d/s.json",)))


def test_a_request_names_the_champion_or_says_that_there_is_none(tmp_path: Path, suite: str) -> None:
    store = open_store(str(tmp_path))
    with pytest.raises(NotFoundError, match="has no champion yet; name the model"):
        plan_evaluation.run(PlanEvaluationConfig(store=str(tmp_path), suite=suite))
    with pytest.raises(NotFoundError, match="runs/x/model: there is no such model folder"):
        plan_evaluation.run(PlanEvaluationConfig(store=str(tmp_path), suite=suite, model="runs/x/model"))
    store.write("runs/first/model/open_clip_config.json", b"{}")
    crown = Champion(model="runs/first/model", model_digest="d", evaluation="", cycle=1)
    store.write("champion.json", crown.to_json())
    asked = plan_evaluation.run(PlanEvaluationConfig(store=str(tmp_path), suite=suite, preset="demo-quick"))
    assert asked["model"] == "runs/first/model"
    assert asked["settings"]["evaluate"] | {"suite": suite} == asked["settings"]["evaluate"]


@pytest.mark.parametrize("model", ["hf-hub:org/name@v1", "ViT-B-32:laion2b_s34b_b79k", "/models/clip"])
def test_a_request_may_name_a_model_that_is_not_in_the_store(tmp_path: Path, suite: str, model: str) -> None:
    asked = plan_evaluation.run(PlanEvaluationConfig(store=str(tmp_path), suite=suite, model=model))
    assert asked["model"] == model
    assert re.fullmatch(r"evaluations/requests/[\w.-]+/", asked["notes"])
