"""A budget is a pipeline input: by a flag of run, sweep and schedule, typed, and refused where it is none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from hqclip import __version__
from hqclip.errors import ConfigError
from hqclip.flags import Parser
from pipelines import run as pipelines_run
from pipelines import run_sweep
from pipelines.client.reasons import ADVICE, kind_of
from pipelines.inputs import INPUTS
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import look_at_once
from tests.scheduling import NIGHTLY, SPEC, Shell, package, upload

GIVEN = ("--set", "store=gs://b/s", "--set", "evaluate_suite=gs://b/suite.json")
BUDGET = ("--budget", "40", "--budget-dollars", "99.5")
LIMITS = {"plan_budget": 40, "plan_budget_dollars": 99.5}
BAD = [
    ("0", "budget is 0; give more than 0, or -1 for no limit"),
    ("-2", "budget is -2; give more than 0, or -1 for no limit"),
    ("NaN", "pipeline input plan_budget is 'NaN'; give a number"),
    ("nan", "pipeline input plan_budget is 'nan'; give a number"),
    ("much", "pipeline input plan_budget is 'much'; give a number"),
    ('"40"', "pipeline input plan_budget is '\"40\"'; give a number"),
    ("true", "pipeline input plan_budget is 'true'; give a number"),
]


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    look_at_once(monkeypatch)
    with FakeKubeflow() as fake:
        yield fake


@pytest.fixture(autouse=True)
def tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a checkout have no digests."""
    monkeypatch.setenv("HQCLIP_TAG", __version__)


def refine(*words: str) -> int:
    parser = Parser()
    pipelines_run.add_arguments(parser)
    given = ["refine", *GIVEN, "--set", "download_shards=gs://b/pool", "--dry-run", "-o", "json", *words]
    return pipelines_run.run(parser.parse_args(given))


def sweep(kubeflow: FakeKubeflow, *words: str) -> int:
    parser = Parser()
    run_sweep.add_arguments(parser)
    grid = ("--grid", "train.learning_rate=1e-3,5e-4")
    return run_sweep.run(parser.parse_args([*grid, *GIVEN, "-o", "json", "--host", kubeflow.url, *words]))


def test_the_pipelines_that_train_or_annotate_have_the_inputs_and_the_one_that_judges_has_not():
    names = {*LIMITS, "plan_gpu_prices"}
    assert [name for name, inputs in INPUTS.items() if names <= set(inputs.settings)] == ["refine", "annotate", "sweep"]
    assert not names & set(INPUTS["evaluate"].settings)


def test_a_run_is_started_with_its_budget(capsys: pytest.CaptureFixture[str]):
    assert refine(*BUDGET) == 0
    assert json.loads(capsys.readouterr().out)["inputs"].items() >= LIMITS.items()
    assert refine() == 0
    assert not LIMITS.keys() & json.loads(capsys.readouterr().out)["inputs"].keys()


@pytest.mark.parametrize(("value", "complaint"), BAD)
def test_what_is_no_budget_is_refused_before_anything_is_sent(value: str, complaint: str):
    with pytest.raises(ConfigError) as refusal:
        refine("--budget", value)
    assert complaint in str(refusal.value)


def test_explain_says_that_it_was_the_budget_and_what_to_do():
    assert kind_of([], 76) == "budget"
    assert "plan_budget" in ADVICE["budget"]


def test_a_sweep_has_one_budget_for_all_its_trials(kubeflow: FakeKubeflow):
    assert sweep(kubeflow, *BUDGET) == 0
    (started,) = kubeflow.runs.values()
    assert started["runtime_config"]["parameters"].items() >= LIMITS.items()
    with pytest.raises(ConfigError, match="a budget is one for all trials of a run: leave it out, or --mode runs"):
        sweep(kubeflow, *BUDGET, "--mode", "runs")
    assert len(kubeflow.runs) == 1
    assert sweep(kubeflow, "--budget", "-1", "--mode", "runs") == 0  # as where the project has one
    assert len(kubeflow.runs) == 3


def test_a_schedule_carries_it_by_its_file_or_by_the_flag(kubeflow: FakeKubeflow, shell: Shell):
    spec = json.loads(json.dumps(SPEC))
    parameters = spec["root"]["inputDefinitions"]["parameters"]
    parameters |= {name: {"parameterType": "NUMBER_DOUBLE", "defaultValue": -1.0} for name in LIMITS}
    upload(kubeflow, package(root=spec["root"]))
    shell.write({**NIGHTLY, "inputs": {**NIGHTLY["inputs"], "plan_budget": 30}})
    shell("apply")
    (made,) = kubeflow.recurring.values()
    assert made["runtime_config"]["parameters"]["plan_budget"] == 30
    (row,) = shell("apply", *BUDGET)
    assert row["action"] == "replace"
    (made,) = kubeflow.recurring.values()
    assert made["runtime_config"]["parameters"].items() >= LIMITS.items()
    with pytest.raises(ConfigError, match="plan_budget is 'much'; give a number"):
        shell("apply", "--budget", "much")
    assert list(kubeflow.recurring.values()) == [made]
