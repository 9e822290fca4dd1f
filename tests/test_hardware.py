"""What the pods of tasks ask for and carry: Pod Security, where they are, CPUs, memory, GPUs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.utils.quantity import parse_quantity

from hqclip import provenance
from hqclip.stages import LAUNCHABLE
from pipelines.__main__ import main
from pipelines.client.versions import parse_package, read_package
from pipelines.compiling import PIPELINES, compile_pipeline
from pipelines.hardware import GPU, LIGHT, MOST_WAITING, REQUESTS, STANDARD, WAITING, Request
from pipelines.lint import lint

Documents = tuple[dict[str, Any], dict[str, Any]]


def documents(tmp_path: Path, name: str, launched: Collection[str] = (), requests: str = "") -> Documents:
    """The executors of a compiled pipeline, and what their pods have besides; by name."""
    made = compile_pipeline(name, tmp_path / f"{name}.yaml", launched, requests)
    assert lint(made) == []
    spec, platform = yaml.safe_load_all(made.read_text())
    return spec["deploymentSpec"]["executors"], platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]


@pytest.mark.parametrize("launched", [(), LAUNCHABLE], ids=["here", "launched"])
@pytest.mark.parametrize("name", PIPELINES)
def test_every_task_may_run_where_pod_security_is_restricted_and_knows_where_it_is(
    name: str, launched: Collection[str], tmp_path: Path
):
    executors, pods = documents(tmp_path, name, launched)
    assert set(pods) == set(executors), "ordinary tasks, those of loops and the exit task"
    for name, pod in pods.items():
        assert pod["securityContext"] == {"runAsNonRoot": True}, name
        fields = {field["name"]: field["fieldPath"] for field in pod["fieldPathAsEnv"]}
        assert fields == {
            "HQCLIP_RUN": "metadata.labels['pipeline/runid']",
            "HQCLIP_POD": "metadata.name",
            "HQCLIP_NODE": "spec.nodeName",
        }
        container = executors[name]["container"]
        assert container["env"] == [{"name": provenance.IMAGE, "value": container["image"]}]


def test_what_pods_carry_is_part_of_the_version(tmp_path: Path):
    text = compile_pipeline("evaluate", tmp_path / "evaluate.yaml").read_bytes()
    assert b"runAsNonRoot: true" in text
    other = text.replace(b"runAsNonRoot: true", b"runAsNonRoot: false")
    assert parse_package(text, "it").version != parse_package(other, "it").version


def asked(executor: dict[str, Any]) -> Request:
    """What a pod asks for, a GPU that depends on the run as one."""
    resources = executor["container"]["resources"]
    accelerator = resources.get("accelerator", {})
    assert accelerator.get("resourceType", GPU) == GPU
    count = accelerator.get("resourceCount", "0")
    return Request(resources["resourceCpuRequest"], resources["resourceMemoryRequest"], int(count.isdigit() and count))


@pytest.mark.parametrize("requests", REQUESTS)
@pytest.mark.parametrize("name", PIPELINES)
def test_every_task_asks_for_what_the_chosen_requests_say(name: str, requests: str, tmp_path: Path):
    executors, _ = documents(tmp_path, name, requests=requests)
    for key, executor in executors.items():
        stage = key.removeprefix("exec-").replace("write-texts", "annotate").replace("judge", "evaluate")
        wanted = REQUESTS[requests].get(stage, LIGHT)
        if stage == "score":
            wanted = dataclasses.replace(wanted, gpus=0)  # that is said by `plan`
        assert asked(executor) == wanted, key


def test_a_small_set_wants_no_gpu_and_fits_a_laptop(tmp_path: Path):
    for stage, request in REQUESTS["small"].items():
        assert request.gpus == 0, stage
        assert request.cpu.endswith("m") and int(request.cpu[:-1]) <= 500, "two trials and a launcher on two cores"
    assert "nvidia.com/gpu" not in compile_pipeline("refine", tmp_path / "it.yaml", requests="small").read_text()


def test_a_stage_that_is_launched_only_waits_whatever_is_chosen(tmp_path: Path):
    for requests in REQUESTS:
        executors, _ = documents(tmp_path, "refine", LAUNCHABLE, requests)
        for stage in LAUNCHABLE:
            assert asked(executors[f"exec-{stage}"]) == WAITING
            assert executors[f"exec-{stage}"]["container"]["resources"]["resourceMemoryLimit"] == MOST_WAITING


@pytest.mark.parametrize("name", ["refine", "annotate"])
def test_the_plan_says_whether_scores_want_a_gpu(name: str, tmp_path: Path):
    """A count is taken from an input of the task, as text: an integer is dropped, and one from elsewhere not found."""
    spec = next(yaml.safe_load_all(compile_pipeline(name, tmp_path / "it.yaml").read_text()))
    count = spec["deploymentSpec"]["executors"]["exec-score"]["container"]["resources"]["accelerator"]["resourceCount"]
    (channel,) = re.fullmatch(r"\{\{\$\.inputs\.parameters\['([\w-]+)'\]\}\}", count).groups()
    assert channel == "pipelinechannel--plan-score_gpus"
    (group,) = (c for c in spec["components"].values() if "score" in c.get("dag", {}).get("tasks", {}))
    assert group["dag"]["tasks"]["score"]["inputs"]["parameters"]["gpus"] == {"componentInputParameter": channel}
    assert spec["components"]["comp-score"]["inputDefinitions"]["parameters"]["gpus"]["parameterType"] == "STRING"


def test_requests_are_part_of_the_version_and_only_chosen_where_something_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert read_package("evaluate").version == read_package("evaluate", requests="standard").version
    assert read_package("evaluate").version != read_package("evaluate", requests="small").version
    path = tmp_path / "small.yaml"
    assert main(["compile", "evaluate", "--requests", "small", "--allow-tags", "-o", str(path)]) == 0
    assert path.read_bytes() == read_package("evaluate", requests="small").text
    refused = [
        ["upload", str(path), "--requests", "small"],
        ["run", "evaluate", "--version", "latest", "--requests", "small"],
        ["run", "evaluate", "--local", "--requests", "small"],
        ["sweep", "--version", "latest", "--requests", "small", "--grid", "train.learning_rate=1e-3,1e-4"],
    ]
    for words in refused:
        assert main(words) == 64, words
        assert "--requests" in capsys.readouterr().err


def test_the_page_of_operations_says_what_is_asked():
    text = (Path(__file__).parents[1] / "docs/operations.md").read_text()
    told: dict[str, list[str]] = {}
    for row in re.findall(r"^\| (`\w+`.*) \|$", text, re.MULTILINE):
        names, *cells = row.split(" | ")
        told |= dict.fromkeys(re.findall(r"`(\w+)`", names), cells)
    for name, column in ((STANDARD, 0), ("small", 1)):
        for stage, asks in REQUESTS[name].items():
            numbers = [float(number) for number in re.findall(r"[\d.]+", told[stage][column])]
            assert float(parse_quantity(asks.cpu)) == numbers[0], stage
            assert float(parse_quantity(asks.memory)) / 2**30 in numbers[1:], stage
            assert ("1 GPU" in told[stage][column]) is bool(asks.gpus), stage
    assert (told["plan"][0], LIGHT) == ("0.1 CPU, 0.25 GiB", Request("100m", "256Mi"))
