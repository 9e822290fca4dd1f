"""Sweeps: which trials a grid and a list make, and that they are started in one run, in many, or here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip import __version__
from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from hqclip.errors import AccessError, ConfigError, NotFoundError
from hqclip.flags import Parser
from hqclip.store import open_store
from hqclip.task import run_planned
from pipelines import run_sweep
from pipelines.run_sweep import make_trials
from tests.cycle import STEPS, TINY, Cycle
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import look_at_once

GRID = ("--grid", "train.learning_rate=1e-3,5e-4", "--grid", "train.negative_weight=0.5,1")
INPUTS = ("--set", "store=gs://b/s", "--set", "evaluate_suite=gs://b/suite.json")


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    look_at_once(monkeypatch)
    monkeypatch.setenv("HQCLIP_TAG", __version__)  # images of a checkout have no digests
    with FakeKubeflow() as fake:
        yield fake
    fake.assert_all_faults_fired()


def run(*words: str) -> int:
    parser = Parser()
    run_sweep.add_arguments(parser)
    return run_sweep.run(parser.parse_args([*words, "-o", "json"]))


def tried(run: dict[str, Any]) -> list[str]:
    return [trial["name"] for trial in json.loads(run["runtime_config"]["parameters"]["sweep_trials"])]


def test_a_grid_and_a_list_make_points_that_can_be_told_apart(tmp_path: Path):
    listed = tmp_path / "trials.yaml"
    listed.write_text("- {train.model: ViT-B-16}\n- {name: plain, settings: {negative_weight: 0}}\n")
    trials = make_trials(["train.learning_rate=1e-3,0.0005", "train.seed=1,2"], listed)
    assert [trial["name"] for trial in trials] == [
        *("lr-0.001-seed-1", "lr-0.001-seed-2", "lr-0.0005-seed-1", "lr-0.0005-seed-2"),
        *("model-vit-b-16", "plain"),
    ]
    assert trials[1]["settings"] == {"learning_rate": 0.001, "seed": 2}
    assert trials[4]["settings"] == {"model": "ViT-B-16"}
    assert make_trials(["train.learning_rate=1e-3,0.0005", "train.seed=1,2"], listed) == trials


@pytest.mark.parametrize(
    ("grids", "complaint"),
    [
        ((), "there is nothing to try"),
        (("train.seed",), "--grid train.seed: give a setting and its values"),
        (("train.seed=,",), "give a setting and its values"),
        (("learning_rate=1",), "give train.learning_rate"),
        (("annotate.model=a,b",), "a sweep tries settings of training; give train.model"),
        (("train.seed=1", "train.seed=2"), "--grid train.seed is given twice"),
        (("train.seed=" + ",".join(map(str, range(17))),), "1 to 16 with different names"),
        (("train.learning_rate=1e-3,0.001",), "different names"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grids: tuple[str, ...], complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        make_trials(grids, None)


def test_the_same_settings_under_two_names_are_refused(tmp_path: Path):
    listed = tmp_path / "trials.json"
    listed.write_text('[{"name": "slow", "settings": {"train.learning_rate": 0.001}}]')
    with pytest.raises(ConfigError, match="the trials lr-0.001 and slow are the same; leave one out"):
        make_trials(["train.learning_rate=1e-3"], listed)


def test_a_list_that_is_none_is_refused(tmp_path: Path):
    with pytest.raises(NotFoundError, match="there is no such file"):
        make_trials([], tmp_path / "nowhere.yaml")
    listed = tmp_path / "trials.yaml"
    listed.write_text("train.seed: 1\n")
    with pytest.raises(ConfigError, match="give a list of trials"):
        make_trials([], listed)


def test_settings_that_training_refuses_are_told_before_anything_starts(kubeflow: FakeKubeflow):
    with pytest.raises(ConfigError) as refusal:
        run("--grid", "train.learning_rate=-1,0.1", "--grid", "train.sede=1", *INPUTS, "--host", kubeflow.url)
    assert "trial lr-0.1-sede-1: unknown setting train.sede; did you mean 'seed'?" in str(refusal.value)
    assert "train.learning_rate is -1" in str(refusal.value)
    assert not kubeflow.requests


def test_a_dry_run_shows_the_points_and_starts_nothing(kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]):
    assert run(*GRID, "--dry-run", "--mode", "runs", *INPUTS, "--host", kubeflow.url) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0] == {"name": "lr-0.001-neg-0.5", "learning_rate": 0.001, "negative_weight": 0.5}
    assert "4 trials in 4 runs" in err
    assert not kubeflow.requests


def test_a_loop_is_one_run_of_all_points(kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]):
    assert run(*GRID, *INPUTS, "--preset", "demo-quick", "--experiment", "tuning", "--host", kubeflow.url) == 0
    (started,) = kubeflow.runs.values()
    assert len(tried(started)) == 4
    assert started["runtime_config"]["parameters"]["plan_preset"] == "demo-quick"
    assert kubeflow.experiments[started["experiment_id"]]["display_name"] == "tuning"
    (row,) = json.loads(capsys.readouterr().out)
    assert row["run"] == started["run_id"]


def test_runs_are_one_for_each_point_of_one_version(kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]):
    assert run(*GRID, *INPUTS, "--mode", "runs", "--host", kubeflow.url) == 0
    started = list(kubeflow.runs.values())
    assert [tried(one) for one in started] == [
        *(["lr-0.001-neg-0.5"], ["lr-0.001-neg-1"], ["lr-0.0005-neg-0.5"], ["lr-0.0005-neg-1"])
    ]
    assert len(kubeflow.versions) == 1
    assert started[0]["display_name"].startswith("sweep lr-0.001-neg-0.5 ")
    assert [row["trials"] for row in json.loads(capsys.readouterr().out)] == [tried(one)[0] for one in started]


def test_a_sweep_that_breaks_midway_leaves_an_account_of_what_was_started(
    kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]
):
    kubeflow.fail("POST", r"/runs$", 403, skip=2)
    with pytest.raises(AccessError):
        run(*GRID, *INPUTS, "--mode", "runs", "--host", kubeflow.url)
    out, err = capsys.readouterr()
    assert [row["run"] for row in json.loads(out)] == list(kubeflow.runs)
    assert len(kubeflow.runs) == 2
    assert "2 of 4 runs were started; not started: lr-0.0005-neg-0.5, lr-0.0005-neg-1" in err


@pytest.mark.parametrize(("second", "code"), [("SUCCEEDED", 0), ("FAILED", 1)])
def test_waiting_mirrors_the_worst_of_the_runs(kubeflow: FakeKubeflow, second: str, code: int):
    states = iter(["SUCCEEDED", second])

    def end() -> None:
        newest = list(kubeflow.runs)[-1]
        kubeflow.finish(newest, next(states))

    kubeflow.then("POST", "/runs$", end, times=2)
    words = ("--grid", "train.seed=1,2", *INPUTS, "--mode", "runs", "--wait", "--poll-s", "0.05")
    assert run(*words, "--host", kubeflow.url) == code


def test_a_wait_that_cannot_be_one_starts_nothing(kubeflow: FakeKubeflow):
    for words in ((), ("--version", "latest")):
        with pytest.raises(ConfigError, match="--poll-s is 0; give more than 0"):
            run("--grid", "train.seed=1", *INPUTS, *words, "--wait", "--poll-s", "0", "--host", kubeflow.url)
    assert not kubeflow.requests


def test_an_uploaded_version_can_be_swept(kubeflow: FakeKubeflow):
    run("--grid", "train.seed=1", *INPUTS, "--host", kubeflow.url)
    run("--grid", "train.seed=2", *INPUTS, "--version", "latest", "--host", kubeflow.url)
    assert [tried(one) for one in kubeflow.runs.values()] == [["seed-1"], ["seed-2"]]
    with pytest.raises(NotFoundError, match="no version '9.9'"):
        run("--grid", "train.seed=2", *INPUTS, "--version", "9.9", "--host", kubeflow.url)
    with pytest.raises(ConfigError, match="leave out --launched, --requests, --platform, --allow-tags and --local"):
        run("--grid", "train.seed=2", *INPUTS, "--version", "latest", "--launched", "train", "--host", kubeflow.url)


def test_inputs_may_come_from_a_file(kubeflow: FakeKubeflow, tmp_path: Path):
    params = tmp_path / "params.yaml"
    params.write_text("store: gs://b/s\nevaluate_suite: gs://b/suite.json\nplan_overrides: {train.sede: 1}\n")
    words = ("--grid", "train.seed=1,2", "--params", str(params), "--host", kubeflow.url)
    for version in ((), ("--version", "latest")):
        with pytest.raises(ConfigError, match="unknown setting train.sede"):
            run(*words, *version)
    assert not kubeflow.requests
    assert run(*words, "--set", "plan_overrides={}") == 0
    (started,) = kubeflow.runs.values()
    assert started["runtime_config"]["parameters"]["store"] == "gs://b/s"


def test_inputs_that_are_missing_are_told(kubeflow: FakeKubeflow):
    with pytest.raises(ConfigError, match="give --set evaluate_suite=..."):
        run("--grid", "train.seed=1", "--set", "store=gs://b/s", "--host", kubeflow.url)
    assert not kubeflow.runs


@pytest.mark.slow
def test_a_sweep_runs_on_this_machine_and_names_the_best(tmp_path: Path):
    world = make_world(DemoWorldConfig(store=str(tmp_path / "world"), images=40, scenes=8))
    root = str(tmp_path / "store")
    cycle = Cycle(root, world, tmp_path / "cycle")
    cycle.plan("hqclip")
    for number, name in enumerate(STEPS):
        done = [cycle.path(before) for before in STEPS[:number]]
        run_planned(name, cycle.path("plan"), done, write_to=cycle.path(name))
    inputs = {
        "store": root,
        "evaluate_suite": world["suite"],
        "curate_dataset": cycle.result("curate")["dataset"],
        "plan_overrides": json.dumps({name: value for name, value in TINY.items() if name.startswith("train.")}),
    }
    given = [word for name, value in inputs.items() for word in ("--set", f"{name}={value}")]
    here = ("--local", "--preset", "demo-quick", "--out", str(tmp_path / "out"))
    assert run("--grid", "train.learning_rate=1e-3,2e-3", *given, *here) == 0
    store = open_store(root)
    (key,) = (key for key in store.list("sweeps/") if re.fullmatch(r"sweeps/\w+\.json", key))
    result = json.loads(store.read(key))
    assert [trial["name"] for trial in result["points"]] == ["lr-0.001", "lr-0.002"]
    assert result["best"] in ("lr-0.001", "lr-0.002")
