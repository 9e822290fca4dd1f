"""`run` on a cluster: inputs are what was written, a run is started once, and a wait ends as the run does."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import AccessError, ConfigError, NotFoundError, UnavailableError
from hqclip.stages import STAGES
from pipelines.client import runs, versions
from pipelines.client.inputs import definitions, read_inputs
from pipelines.compiling import PIPELINES
from pipelines.inputs import INPUTS
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_api import Answer
from tests.fakes.kubeflow_client import NAME, call, write_package
from tests.kubeflow_runs import Read, Write

STORE = ("--set", "store=/no/such/store")


@pytest.fixture
def package(tmp_path: Path) -> Path:
    return write_package(tmp_path)


def only_run(kubeflow: FakeKubeflow) -> dict[str, Any]:
    (run,) = kubeflow.runs.values()
    return run


def sent(kubeflow: FakeKubeflow) -> dict[str, Any]:
    """Inputs of the only run."""
    return dict(only_run(kubeflow)["runtime_config"]["parameters"])


# inputs


def test_text_stays_text_and_numbers_are_numbers(kubeflow: FakeKubeflow, package: Path) -> None:
    words = ["store=s", "release=1.10", "train_seed=7", "train_rate=0.5", "again=true", 'trials=["a",1]', "extra={}"]
    words += ["plan_overrides={}"]
    assert call(runs, package, *[word for value in words for word in ("--set", value)]) == 0
    assert sent(kubeflow) == {
        "store": "s",
        "release": "1.10",
        "train_seed": 7,
        "train_rate": 0.5,
        "again": True,
        "trials": ["a", 1],
        "extra": {},
        "plan_overrides": "{}",
    }


@pytest.mark.parametrize("text", ["007", "null", "true", "NaN", "1e3", "", "a=b", "'quoted'", "[1, 2]"])
def test_no_text_is_taken_for_anything_else(kubeflow: FakeKubeflow, package: Path, text: str) -> None:
    assert call(runs, package, *STORE, "--set", f"release={text}") == 0
    assert sent(kubeflow)["release"] == text


@pytest.mark.parametrize(
    ("name", "source"),
    [
        (
            "p.yaml",
            "store: s\nrelease: 1.10\ntrain_seed: 3\ntrials: [a]\nplan_overrides: {train.rate: 1.0}\nagain: yes\n",
        ),
        (
            "p.json",
            '{"store": "s", "release": 1.10, "train_seed": 3, "trials": ["a"], "plan_overrides": {"train.rate": 1.0}, '
            '"again": true}',
        ),
    ],
)
def test_a_file_gives_inputs_and_flags_win_over_it(
    kubeflow: FakeKubeflow, package: Path, tmp_path: Path, name: str, source: str
) -> None:
    (tmp_path / name).write_text(source)
    assert call(runs, package, "--params", tmp_path / name, "--set", "train_seed=4") == 0
    assert sent(kubeflow) == {
        "store": "s",
        "release": "1.10",
        "train_seed": 4,
        "trials": ["a"],
        "plan_overrides": '{"train.rate": 1.0}',
        "again": True,
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "inputs are missing: give --set store=..., or --params FILE"),
        ([*STORE, "--set", "train_sed=1"], "unknown pipeline input 'train_sed'; did you mean 'train_seed'"),
        ([*STORE, "--set", "train_seed"], "--set train_seed: give INPUT=VALUE"),
        ([*STORE, "--set", "train_seed=1.5"], "train_seed is '1.5'; give a whole number"),
        ([*STORE, "--set", "train_seed=true"], "train_seed is 'true'; give a whole number"),
        ([*STORE, "--set", "train_rate=fast"], "train_rate is 'fast'; give a number"),
        ([*STORE, "--set", "again=1"], "again is '1'; give true or false"),
        ([*STORE, "--set", "trials={}"], "give a list as JSON"),
        ([*STORE, "--set", "plan_preset=smal"], "plan_preset is 'smal'; did you mean 'small'.*one of small, large"),
        (["--set", "a=1", "--set", "train_seed=x"], "'a'.*train_seed"),
    ],
)
def test_wrong_inputs_are_named_all_at_once_before_anything_is_sent(
    kubeflow: FakeKubeflow, package: Path, words: list[str], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        call(runs, package, *words)
    assert not kubeflow.requests


@pytest.mark.parametrize("key", ["hf_aBcDeFgHiJkLmNoPq", "https://hooks.slack.com/services/T0/B0/x"])
def test_no_key_is_an_input_that_whoever_reads_runs_may_read(key: str) -> None:
    with pytest.raises(ConfigError, match="input plan_overrides has a key or token in it.*secret_env") as told:
        read_inputs({"plan_overrides": {}}, [f'plan_overrides={{"annotate.model": "{key}"}}'])
    assert key not in str(told.value)
    assert read_inputs({"shards": {}}, ["shards=s3://bucket/key-{0..9}.tar"])


def test_a_file_of_inputs_that_is_none_is_refused(kubeflow: FakeKubeflow, package: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        call(runs, package, "--params", tmp_path / "nothing.yaml")
    for source, said in {
        "- milk": "give a mapping",
        "{": "neither YAML nor JSON",
        "": "give a mapping",
        "on: 1\nyes: 2": "on, yes are one and the same in YAML",
        "store: 2026-02-30": "neither YAML nor JSON: day is out of range",
    }.items():
        (tmp_path / "odd.yaml").write_text(source)
        with pytest.raises(ConfigError, match=said):
            call(runs, package, "--params", tmp_path / "odd.yaml")


# a run


def test_a_run_is_of_an_uploaded_version(kubeflow: FakeKubeflow, package: Path, capsys: Read) -> None:
    assert call(runs, package, *STORE, "-o", "json") == 0
    shown = capsys.readouterr()
    run, (version,) = only_run(kubeflow), kubeflow.versions.values()
    told = json.loads(shown.out)
    assert told["run_id"] == run["run_id"]
    assert told["link"] == "", "the API has no pages"
    assert (told["pipeline"], told["version"], told["experiment"]) == (NAME, version["name"], "hqclip")
    assert run["pipeline_version_reference"]["pipeline_version_id"] == version["pipeline_version_id"]
    assert f"python -m pipelines cancel {run['run_id']}" in shown.err
    assert call(runs, package, *STORE) == 0
    assert (len(kubeflow.versions), len(kubeflow.experiments), len(kubeflow.runs)) == (1, 1, 2)


def test_a_named_version_runs_though_other_content_is_here(
    kubeflow: FakeKubeflow, package: Path, tmp_path: Path, capsys: Read
) -> None:
    assert call(versions, package) == 0
    (old,) = kubeflow.versions.values()
    assert call(versions, write_package(tmp_path, image="x@sha256:1")) == 0
    assert call(runs, NAME, "--version", old["name"], *STORE) == 0
    assert only_run(kubeflow)["pipeline_version_reference"]["pipeline_version_id"] == old["pipeline_version_id"]
    with pytest.raises(ConfigError, match="inputs are missing"):
        call(runs, NAME, "--version", "latest")
    with pytest.raises(ConfigError, match="wants the name of a pipeline, not a file"):
        call(runs, package, "--version", "latest", *STORE)
    with pytest.raises(NotFoundError, match="no version 'nothing'"):
        call(runs, NAME, "--version", "nothing", *STORE)


def test_flags_name_the_run_and_what_it_belongs_to(kubeflow: FakeKubeflow, package: Path) -> None:
    words = [
        "--name",
        "friday",
        "--experiment",
        "trials",
        "--service-account",
        "trainer",
        "--pipeline-root",
        "gs://b/r",
    ]
    assert call(runs, package, *STORE, *words) == 0
    run = only_run(kubeflow)
    assert (run["display_name"], run["service_account"]) == ("friday", "trainer")
    assert run["runtime_config"]["pipeline_root"] == "gs://b/r"
    assert kubeflow.experiments[run["experiment_id"]]["display_name"] == "trials"


def test_a_dry_run_prints_what_would_be_sent_and_sends_nothing(
    kubeflow: FakeKubeflow, package: Path, capsys: Read
) -> None:
    assert call(runs, package, *STORE, "--set", "release=1.10", "--dry-run", "-o", "json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["inputs"] == {"store": "/no/such/store", "release": "1.10"}
    assert told["pipeline"] == NAME
    assert not kubeflow.requests
    assert call(versions, package) == 0
    assert call(runs, NAME, "--version", "latest", *STORE, "--dry-run") == 0
    assert not kubeflow.runs


def test_our_own_pipeline_runs_from_its_name(kubeflow: FakeKubeflow) -> None:
    words = ["store=gs://b/hq", "download_shards=gs://b/pool/0.tar", "evaluate_suite=gs://b/suite.json"]
    assert call(runs, "refine", *[word for value in words for word in ("--set", value)]) == 0
    assert only_run(kubeflow)["display_name"].startswith("hqclip-refine ")


@pytest.mark.parametrize(
    ("pipeline", "words", "complaint"),
    [
        ("refine", ("plan_preset=smal",), "unknown preset 'smal'; did you mean 'small'?"),
        ("refine", ("train_trials=hqclip,rw",), "'rw'"),
        ("refine", ("train_seed=-1",), "train_seed is -1"),
        ("annotate", ('plan_overrides={"curate.drop_shar": 0.2}',), "did you mean 'drop_share'?"),
        ("sweep", ('sweep_trials={"train.learning_rate": [-1, 0.1]}',), "train.learning_rate is -1"),
        ("evaluate", ("plan_preset=x",), "unknown preset 'x'"),
    ],
)
def test_settings_that_the_first_task_would_refuse_start_nothing(
    kubeflow: FakeKubeflow, pipeline: str, words: tuple[str, ...], complaint: str
) -> None:
    named = {
        "refine": ("download_shards=s", "evaluate_suite=e"),
        "annotate": ("download_shards=s",),
        "sweep": ("evaluate_suite=e",),
        "evaluate": ("evaluate_suite=e",),
    }
    given = [word for value in (*named[pipeline], *words) for word in ("--set", value)]
    with pytest.raises(ConfigError) as refusal:
        call(runs, pipeline, *STORE, *given)
    assert complaint in str(refusal.value)
    assert not kubeflow.requests


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_every_input_of_a_pipeline_is_a_setting_of_its_first_task(pipeline: str) -> None:
    inputs, known = INPUTS[pipeline], definitions(versions.read_package(pipeline).spec)
    assert set(inputs.settings) == set(known)
    assert len(set(inputs.settings.values())) == len(known), "each gives one of its own"
    fields = {field.name: field for field in dataclasses.fields(STAGES[inputs.stage].settings)}
    types = {"int": "NUMBER_INTEGER", "float": "NUMBER_DOUBLE", "bool": "BOOLEAN"}
    for name, told in known.items():
        field = fields[inputs.settings[name]]
        assert told["description"].lower() == f"{field.metadata['help']}.".lower()
        as_text = name == "train_seed"  # a cluster would round it
        assert told["parameterType"] == ("STRING" if as_text else types.get(field.type, "STRING")), name
        assert ("defaultValue" in told) == (field.default is not dataclasses.MISSING and name not in inputs.required)
        if "defaultValue" in told:
            default = str(field.default) if as_text else field.default
            assert told["defaultValue"] == (",".join(default) if isinstance(default, tuple) else default), name


def test_a_wait_that_cannot_be_one_starts_nothing(kubeflow: FakeKubeflow, package: Path) -> None:
    assert call(versions, package) == 0
    for words in ((package,), (NAME, "--version", "latest")):
        with pytest.raises(ConfigError, match="--poll-s is -1; give more than 0"):
            call(runs, *words, *STORE, "--wait", "--poll-s", "-1")
    assert not kubeflow.runs


def test_a_run_that_is_made_after_its_gateway_gave_up_is_not_started_twice(
    kubeflow: FakeKubeflow, package: Path, capsys: Read
) -> None:
    kubeflow.commit_then_drop("POST", "/runs$")
    unseen = Answer({"runs": []})
    kubeflow.say("GET", "/runs[?]", unseen, times=2)  # before it is sent, and at the first look: it is not there yet
    assert call(runs, package, *STORE, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == only_run(kubeflow)["run_id"]
    kubeflow.assert_all_faults_fired()


def test_a_run_whose_answer_got_lost_is_not_started_twice(kubeflow: FakeKubeflow, package: Path, capsys: Read) -> None:
    kubeflow.commit_then_drop("POST", "/runs$")
    assert call(runs, package, *STORE, "-o", "json") == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == only_run(kubeflow)["run_id"]
    kubeflow.fail("POST", "/runs$", 503)
    assert call(runs, package, *STORE) == 0
    assert len(kubeflow.runs) == 2
    kubeflow.assert_all_faults_fired()


# --wait


def wait(package: Path, *words: object) -> int:
    return call(runs, package, *STORE, "--wait", "--poll-s", 0.02, *words)


def test_a_wait_tells_each_change_and_ends_with_success(kubeflow: FakeKubeflow, package: Path, capsys: Read) -> None:
    kubeflow.on_polls(
        lambda run: kubeflow.task(run, "plan", "RUNNING"),
        lambda run: kubeflow.task(run, "plan", "RUNNING"),
        lambda run: (
            kubeflow.task(run, "plan", "SUCCEEDED"),
            kubeflow.task(run, "train", "RUNNING"),
            kubeflow.state(run, "RUNNING"),
        ),
        lambda run: (kubeflow.task(run, "train", "SUCCEEDED"), kubeflow.finish(run)),
    )
    assert wait(package, "-o", "json") == 0
    shown = capsys.readouterr()
    changes = [line[8:].partition(" after")[0] for line in shown.err.splitlines() if line[3:4] == ":"]
    assert changes == [
        "plan RUNNING",
        "run PENDING",
        "plan SUCCEEDED",
        "train RUNNING",
        "run RUNNING",
        "train SUCCEEDED",
        "run SUCCEEDED",
    ]
    assert json.loads(shown.out)["state"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("stage", "decided", "said"),
    [
        (
            "promote",
            {"verdict": "promoted", "reason": "hqclip is 2.1 points better, margin 0.5", "report": "cycles/7/r.html"},
            "SUCCEEDED: promoted: hqclip is 2.1 points better, margin 0.5",
        ),
        ("promote", {"verdict": "kept", "reason": "0.2 points, margin 0.5"}, "SUCCEEDED: kept: 0.2 points, margin 0.5"),
        (
            "promote",
            {"verdict": "waits for approval", "reason": "1.0 points; `hqclip approve ...` puts it in force"},
            "SUCCEEDED: waits for approval: 1.0 points; `hqclip approve ...` puts it in force",
        ),
        ("plan", {"has_work": False, "reason": "cycle 7 is done"}, "SUCCEEDED: cycle 7 is done"),
        ("plan", {"has_work": False, "reason": "skipped: run 5 is at work"}, "SUCCEEDED: skipped: run 5 is at work"),
        ("select", {"reason": "lr-0.1 is best", "report": "sweeps/x/r.html"}, "SUCCEEDED: lr-0.1 is best"),
    ],
)
def test_a_wait_ends_with_what_came_of_it(
    kubeflow: FakeKubeflow,
    package: Path,
    tmp_path: Path,
    write: Write,
    capsys: Read,
    stage: str,
    decided: dict[str, str],
    said: str,
) -> None:
    def end(run: str) -> None:
        write(run, stage, pod=kubeflow.task(run, stage, "SUCCEEDED"), decided=decided)
        kubeflow.finish(run)

    kubeflow.on_polls(end)
    store = tmp_path / "store"
    store.mkdir()
    assert call(runs, package, "--set", f"store={store}", "--wait", "--poll-s", 0.02) == 0
    lines = capsys.readouterr().err.splitlines()
    assert f"run {only_run(kubeflow)['run_id']}: {said}" in lines
    pages = [line for line in lines if line.startswith("page: ")]
    assert pages == ([f"page: {store}/{decided['report']}"] if "report" in decided else [])


def test_a_failed_run_is_exit_code_1_and_is_explained(kubeflow: FakeKubeflow, package: Path, capsys: Read) -> None:
    kubeflow.on_polls(
        lambda run: (
            kubeflow.task(run, "train", "FAILED", status=65, lines=["hqclip train: the loss is not a number"]),
            kubeflow.finish(run, "FAILED"),
        )
    )
    assert wait(package) == 1
    said = capsys.readouterr().err
    assert "failed at train (data, exit code 65): hqclip train: the loss is not a number" in said
    assert f"next: python -m pipelines logs {only_run(kubeflow)['run_id']} --task train" in said


@pytest.mark.parametrize(("state", "code"), [("SKIPPED", 0), ("CANCELED", 1)])
def test_every_end_ends_the_wait(kubeflow: FakeKubeflow, package: Path, state: str, code: int) -> None:
    kubeflow.on_polls(lambda run: kubeflow.finish(run, state))
    assert wait(package) == code


def test_a_wait_stands_outages(kubeflow: FakeKubeflow, package: Path, capsys: Read) -> None:
    kubeflow.on_polls(lambda run: None, lambda run: kubeflow.finish(run))
    kubeflow.fail("GET", "/runs/", 503, times=4)
    kubeflow.drop("GET", "/runs/", times=2)
    assert wait(package, "--patience-s", 0.2) == 0
    assert "Kubeflow does not answer; trying again" in capsys.readouterr().err
    kubeflow.assert_all_faults_fired()


def test_a_wait_gives_up_on_a_server_that_stays_away(kubeflow: FakeKubeflow, package: Path) -> None:
    kubeflow.fail("GET", "/runs/", 503, times=1_000_000)
    with pytest.raises(UnavailableError, match=r"goes on by itself: see `python -m pipelines status"):
        wait(package, "--patience-s", 0.03)
    assert len(kubeflow.runs) == 1


def test_a_login_that_ends_before_the_run_says_that_the_run_goes_on(kubeflow: FakeKubeflow, package: Path) -> None:
    kubeflow.fail("GET", "/runs/", 401)
    with pytest.raises(AccessError, match=r"refuses \(401\).*goes on by itself"):
        wait(package)
    assert len(kubeflow.runs) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_stops_waiting_is_told_that_the_run_goes_on(
    kubeflow: FakeKubeflow, package: Path, capsys: Read, number: signal.Signals, code: int
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    # at every poll: Python drops an interrupt that comes in the middle of collecting garbage
    kubeflow.on_polls(*[lambda run: os.kill(os.getpid(), number)] * 100)
    assert wait(package) == code
    run = only_run(kubeflow)
    read = capsys.readouterr()
    said = read.err
    assert "state" not in read.out, "how far it is by now nobody knows"
    assert f"run {run['run_id']} goes on" in said
    assert f"python -m pipelines cancel {run['run_id']}" in said
    assert "state" not in run, "nobody ended it"
    assert signal.getsignal(signal.SIGTERM) is before
