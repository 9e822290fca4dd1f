"""The linter finds what compiles but misbehaves, and nothing in what we ship."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.__main__ import main
from pipelines.compiling import PIPELINES, compile_pipeline
from pipelines.lint import lint

Spec = dict[str, Any]
LOOP_ITEM = "pipelinechannel--plan-trials-loop-item"


@pytest.fixture(scope="module")
def refine(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_pipeline("refine", tmp_path_factory.mktemp("compiled") / "refine.yaml").read_text()


@pytest.mark.parametrize("name", PIPELINES)
def test_what_we_ship_is_clean(name: str, tmp_path: Path) -> None:
    assert lint(compile_pipeline(name, tmp_path / "it.yaml")) == []


def _main_tasks(spec: Spec) -> Spec:
    return dict(spec["components"]["comp-exit-handler-1"]["dag"]["tasks"])


def _condition(spec: Spec) -> Spec:
    return dict(next(task for name, task in _main_tasks(spec).items() if name.startswith("condition")))


def undescribed(spec: Spec) -> None:
    del spec["root"]["inputDefinitions"]["parameters"]["train_seed"]["description"]


def misnamed(spec: Spec) -> None:
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    inputs["seed"] = inputs.pop("train_seed")
    given = spec["root"]["dag"]["tasks"]["exit-handler-1"]["inputs"]["parameters"]
    given["pipelinechannel--train_seed"]["componentInputParameter"] = "seed"


def optional(spec: Spec) -> None:
    spec["root"]["inputDefinitions"]["parameters"]["train_seed"].pop("defaultValue")


def too_many(spec: Spec) -> None:
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    inputs |= {f"train_{n}": inputs["train_seed"] for n in range(20)}


def container(spec: Spec) -> None:
    spec["deploymentSpec"]["executors"]["exec-train"]["container"]["command"] = ["python", "train.py"]


def installs(spec: Spec) -> None:
    spec["deploymentSpec"]["executors"]["exec-train"]["container"]["command"].insert(0, "pip install x")


def floating(spec: Spec) -> None:
    spec["deploymentSpec"]["executors"]["exec-train"]["container"]["image"] = "hqclip/train:latest"


def named_output(spec: Spec) -> None:
    for source in _condition(spec)["inputs"]["parameters"].values():
        if "taskOutputParameter" in source:
            source["taskOutputParameter"]["outputParameterKey"] = "has_work"


def quoted(spec: Spec) -> None:
    _condition(spec)["triggerPolicy"]["condition"] = "inputs.parameter_values['x'] == 'it\\'s'"


def joined(spec: Spec) -> None:
    task = _main_tasks(spec)["plan"]
    task["inputs"]["parameters"]["store"] = {"runtimeValue": {"constant": "gs://b/{{$.pipeline_job_uuid}}"}}


def either(spec: Spec) -> None:
    selectors = [{"producerSubtask": "a"}, {"producerSubtask": "b"}]
    spec["components"]["comp-exit-handler-1"]["dag"]["outputs"] = {"artifacts": {"x": {"artifactSelectors": selectors}}}


def cached(spec: Spec) -> None:
    _main_tasks(spec)["plan"]["cachingOptions"] = {"enableCache": True}


def volume(spec: Spec) -> None:
    spec["components"]["comp-createpvc"] = spec["components"]["comp-plan"]


def many_tasks(spec: Spec) -> None:
    tasks = spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    tasks |= {f"plan-{n}": tasks["plan"] for n in range(2, 20)}


def nameless(spec: Spec) -> None:
    _main_tasks(spec)["plan"]["taskInfo"]["name"] = "plan"


def of_another_type(spec: Spec) -> None:
    """As after a task whose result is a list of it does not say what."""
    spec["components"]["comp-for-loop-3"]["inputDefinitions"]["parameters"][LOOP_ITEM]["parameterType"] = "STRING"


def handed_twice(spec: Spec) -> None:
    artifacts = spec["components"]["comp-for-loop-3"]["dag"]["tasks"]["train"]["inputs"]["artifacts"]
    artifacts["curated"] = artifacts["planned"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (undescribed, "input train_seed has no description"),
        (misnamed, "input seed is not named after its stage"),
        (optional, "input train_seed may be None"),
        (too_many, "inputs; the form of the UI bears 20"),
        (container, "exec-train is no lightweight component"),
        (installs, "exec-train installs packages when it starts"),
        (floating, "exec-train runs :latest"),
        (named_output, "decides by the named output 'has_work'"),
        (quoted, "compares with a text that has a quote in it"),
        (joined, "plan: store joins text and a placeholder"),
        (either, "output x is one of several artifacts"),
        (cached, "plan may be served from Kubeflow's cache"),
        (volume, "comp-createpvc creates a volume"),
        (many_tasks, "tasks; the workflow object bears 25"),
        (nameless, "plan has no display name"),
        (of_another_type, "train: trial takes STRUCT and is given STRING"),
        (handed_twice, "train is given one artifact twice"),
    ],
)
def test_each_fault_is_found_and_only_that(
    refine: str, spoil: Callable[[Spec], None], said: str, tmp_path: Path
) -> None:
    spec = next(yaml.safe_load_all(refine))
    spoil(spec)
    path = tmp_path / "spoilt.yaml"
    path.write_text(yaml.safe_dump(spec))
    (problem,) = lint(path)
    assert said in problem


def test_a_pipeline_that_is_too_big_is_found(refine: str, tmp_path: Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_text(refine + "# " + "x" * 100_000)
    (problem,) = lint(path)
    assert "a workflow object holds 100,000 safely" in problem


def test_the_verb_ends_with_the_code_of_a_wrong_setting(
    refine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it.yaml"
    path.write_text(refine)
    assert main(["lint", str(path), "evaluate"]) == 0
    path.write_text(refine.replace("enableCache: true", "").replace("hqclip/train:0.1.0", "hqclip/train:latest"))
    assert main(["lint", str(path)]) == 64
    assert "exec-train runs :latest" in capsys.readouterr().out
    path.write_text("a: [")
    assert main(["lint", str(path)]) == 64
    assert main(["lint", str(tmp_path / "nothing.yaml")]) == 64


@pytest.mark.parametrize(
    "content",
    [b"a: b", b"", b"root: {}", b"root: {dag: {tasks: {a: {}}}}", b"root: {dag: {tasks: [a]}}", b"- root", b"\xff\xfe"],
)
def test_what_is_no_compiled_pipeline_is_refused(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "it.yaml"
    path.write_bytes(content)
    assert main(["lint", str(path)]) == 64
    assert re.search("this is no compiled pipeline|can't decode", capsys.readouterr().err)
