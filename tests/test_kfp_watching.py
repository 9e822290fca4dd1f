"""`status`, `logs` and `explain`: what a run does, what it said, and why it broke."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import AccessError, ConfigError, NotFoundError, UnavailableError
from pipelines.client import explain, pods, tasks
from pipelines.client.explain import kind_of, telling_line
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call
from tests.fakes.kubernetes import FakeCluster
from tests.kubeflow_runs import NO_CLUSTER, Read, Start, shown
from tests.launching import write_kubeconfig

POD = "hqclip-small-x7k2p-system-container-impl-{}"


def add_pod(kubernetes: FakeCluster, run_id: str, name: str, *lines: str, **ended: Any) -> str:
    """A pod of a run as Argo makes them, with what its main container said; `ended`: exitCode, reason, message."""
    state = {"terminated": {"exitCode": 0, "reason": "Completed", **ended}} if ended else {"running": {}}
    containers = [{"name": name, "image": "x"} for name in ("wait", "main")]
    statuses = [{"name": container["name"], "state": state} for container in containers]
    kubernetes.add(
        "pods",
        {
            "metadata": {"name": name, "labels": {"pipeline/runid": run_id}},
            "spec": {"containers": containers, "nodeName": "n1"},
            "status": {
                "phase": "Running",
                "containerStatuses": statuses,
            },
        },
    )
    kubernetes.log(name, *lines, container="main")
    return name


def ended_with(code: int) -> str:
    """What Kubeflow's launcher says of the stage it ran, before it ends with 1 itself."""
    return f"F1125 12:00:00.000001      17 main.go:60] failed to execute component: exit status {code}"


# status


def test_a_run_is_shown_with_its_tasks(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start("friday")
    kubeflow.task(run_id, "root-driver", "SUCCEEDED")
    kubeflow.task(run_id, "plan", "SUCCEEDED")
    kubeflow.task(run_id, "train", "FAILED", error="exit code 65")
    kubeflow.finish(run_id, "FAILED")
    assert call(tasks, run_id, "-o", "json") == 0
    told = shown(capsys)
    assert (told["name"], told["state"]) == ("friday", "FAILED")
    assert [(task["task"], task["state"], task["error"]) for task in told["tasks"]] == [
        ("plan", "SUCCEEDED", ""),
        ("train", "FAILED", "exit code 65"),
    ]
    assert call(tasks, run_id) == 0
    person = capsys.readouterr()
    assert f"{kubeflow.url}/#/runs/details/{run_id}" in person.out
    assert "TASK   STATE" in person.out
    assert f"python -m pipelines explain {run_id}" in person.err


def test_a_run_is_found_by_the_start_of_its_id_by_its_name_or_as_the_latest(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    first, second = start("first"), start("second")
    for words, expected in ((first[:8], first), ("first", first), ("latest", second), (second, second)):
        assert call(tasks, words, "-o", "json") == 0
        assert shown(capsys)["run_id"] == expected
    with pytest.raises(NotFoundError, match="there is no run 'third'"):
        call(tasks, "third")


def test_the_latest_is_that_of_the_experiment(start: Start, capsys: Read) -> None:
    nightly, _ = start("night", experiment="nightly"), start("day")
    assert call(tasks, "latest", "--experiment", "nightly", "-o", "json") == 0
    assert shown(capsys)["run_id"] == nightly
    with pytest.raises(NotFoundError, match="no run 'day'"):
        call(tasks, "day", "--experiment", "nightly")


def test_a_task_may_bear_the_name_of_its_run(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start("train")
    kubeflow.task(run_id, "train", "FAILED", error="exit code 65", pod="a-task")
    root = {"run_id": run_id, "task_id": "root", "display_name": "train", "state": "FAILED", "pod_name": "a-root"}
    kubeflow.runs[run_id]["run_details"]["task_details"].append({**root, "child_tasks": [{"pod_name": "a-task"}]})
    assert call(tasks, run_id, "-o", "json") == 0
    assert [(task["task"], task["error"]) for task in shown(capsys)["tasks"]] == [("train", "exit code 65")]


def test_runs_are_listed_the_newest_first(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    for name in ("one", "two", "three"):
        start(name)
    assert call(tasks, "--limit", 2, "-o", "json") == 0
    assert [row["name"] for row in shown(capsys)] == ["three", "two"]
    assert call(tasks, "--experiment", "hqclip", "-o", "json") == 0
    assert len(shown(capsys)) == 3
    with pytest.raises(NotFoundError, match="no experiment 'nothing'"):
        call(tasks, "--experiment", "nothing")


def test_less_than_one_run_cannot_be_listed(kubeflow: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="--limit is -1; give 1 or more"):
        call(tasks, "--limit", "-1")


# logs


def test_logs_are_those_of_the_tasks_and_not_of_kubeflows_own_pods(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id, other = start(), start()
    add_pod(kubernetes, run_id, "hqclip-small-x7k2p-system-container-driver-1", "driving")
    add_pod(kubernetes, other, POD.format(9), "somebody else")
    for number, task in enumerate(("plan", "train")):
        pod = add_pod(kubernetes, run_id, POD.format(number), f"{task}: 1", f"{task}: 2")
        kubeflow.task(run_id, task, "RUNNING", pod=pod)
    assert call(pods, run_id) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[plan] plan: 1",
        "[plan] plan: 2",
        "[train] train: 1",
        "[train] train: 2",
    ]
    assert call(pods, run_id, "--task", "train", "--tail", 1) == 0
    assert capsys.readouterr().out == "[train] train: 2\n"
    with pytest.raises(NotFoundError, match="no pod ran for task 'trian'; did you mean 'train'"):
        call(pods, run_id, "--task", "trian")


def test_logs_that_are_gone_or_out_of_reach_are_elsewhere(
    kubeflow: FakeKubeflow, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    with pytest.raises(UnavailableError, match=rf"{NO_CLUSTER}.*#/runs/details/{run_id}; .*`hqclip jobs logs`"):
        call(pods, run_id)
    with FakeCluster() as kubernetes:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", kubernetes.url)))
        with pytest.raises(NotFoundError, match=rf"no pods of run {run_id} are left.*#/runs/details/{run_id}"):
            call(pods, run_id)
    with FakeCluster(rules=[]) as kubernetes:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", kubernetes.url)))
        with pytest.raises(AccessError, match=r"cannot list resource .*see them in the UI"):
            call(pods, run_id)


# explain


def test_a_failure_is_explained_by_what_the_stage_said(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    fault = "hqclip curate: gs://b/0.tar: 312 of 10000 samples have no image"
    said = ["a tool ended with exit status 1", fault, "hqclip curate: 3 of 9 shards, 1/s"]
    pod = add_pod(kubernetes, run_id, POD.format(1), *said, ended_with(65), exitCode=1, reason="Error")
    kubeflow.task(run_id, "curate", "FAILED", error="main: Error (exit code 1)", pod=pod)
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert (reason["task"], reason["reason"]) == ("curate", "data")
    assert reason["line"] == "hqclip curate: gs://b/0.tar: 312 of 10000 samples have no image"
    assert reason["next"] == f"python -m pipelines logs {run_id} --task curate"


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (["ValueError: three", ended_with(1)], "bug"),
        (["ValueError: three"], "bug"),
        ([ended_with(78)], "software"),
        ([], "unknown"),
    ],
)
def test_the_launchers_own_exit_code_says_nothing_of_the_stage(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read, lines: list[str], kind: str
) -> None:
    run_id = start()
    pod = add_pod(kubernetes, run_id, POD.format(1), *lines, exitCode=1, reason="Error")
    kubeflow.task(run_id, "train", "FAILED", error="main: Error (exit code 1)", pod=pod)
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert reason["reason"] == kind


def test_a_killed_container_is_out_of_memory(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    pod = add_pod(kubernetes, run_id, POD.format(1), "epoch 1", exitCode=137, reason="OOMKilled")
    kubeflow.task(run_id, "score", "FAILED", error="main: OOMKilled", pod=pod)
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id) == 0
    told = capsys.readouterr().out
    assert "out_of_memory" in told
    assert "smaller batches" in told


def test_only_what_broke_by_itself_is_blamed_the_first_first(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    run_id = start()
    kubeflow.task(run_id, "refine", "RUNNING")
    for name in ("score", "annotate"):
        kubeflow.task(run_id, name, "RUNNING", parent="refine")
        kubeflow.task(run_id, name, "FAILED", error=f"{name}: exit code 1")
    kubeflow.task(run_id, "refine", "FAILED")
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    read = capsys.readouterr()
    assert [reason["task"] for reason in json.loads(read.out)["reasons"]] == ["score", "annotate"]
    assert f"pods were not looked at: {NO_CLUSTER}" in read.err


def test_what_kubeflow_lists_as_executor_belongs_to_its_task(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    said = "hqclip train: the loss is not a number"
    pod = add_pod(kubernetes, run_id, POD.format(1), said, ended_with(65), exitCode=1, reason="Error")
    kubeflow.task(run_id, "train", "FAILED")
    kubeflow.task(run_id, "executor", "FAILED", error="main: Error (exit code 1)", pod=pod, parent="train")
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert (reason["task"], reason["reason"], reason["line"]) == ("train", "data", said)
    assert call(pods, run_id) == 0
    assert capsys.readouterr().out == f"[train] {said}\n[train] {ended_with(65)}\n"


def test_each_turn_of_a_loop_is_explained_by_its_own_pod(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    for number in (1, 2):
        said = f"hqclip train: trial {number}"
        pod = add_pod(kubernetes, run_id, POD.format(number), said, exitCode=1, reason="Error")
        kubeflow.task(run_id, f"train-{number}", "FAILED", pod=pod)["display_name"] = "train"
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    assert [reason["line"] for reason in shown(capsys)["reasons"]] == ["hqclip train: trial 1", "hqclip train: trial 2"]


def test_a_launched_stage_is_explained_by_its_job(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    kubeflow.task(run_id, "train", "FAILED", error="hqclip launch: rank 3 was killed (exit code 70)")
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert reason["next"].startswith("hqclip jobs list, then hqclip jobs logs --job JOB")
    assert "gs://bucket/hq/launch/" in reason["advice"]
    assert reason["reason"] == "crash_loop"


def test_a_run_without_a_failed_task_says_what_is_known(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(explain, run_id) == 0
    assert capsys.readouterr().out == f"run {run_id} is RUNNING: no task of it failed\n"
    kubeflow.finish(run_id, "FAILED", error="the workflow is too large")
    assert call(explain, run_id) == 0
    assert "FAILED: the workflow is too large" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "exit_code", "kind"),
    [
        ("OOMKilled", 137, "out_of_memory"),
        ("torch.OutOfMemoryError: CUDA out of memory", 1, "out_of_memory"),
        ("ImagePullBackOff: back-off pulling image", None, "image"),
        ("The node was low on resource: Evicted", None, "machine_lost"),
        ("0/12 nodes are available: Insufficient nvidia.com/gpu", None, "no_machines"),
        ("Step exceeded its deadline", None, "timeout"),
        ("main: Error (exit code 64)", None, "setting"),
        ("main: Error (exit code 66)", None, "not_found"),
        ("", 69, "service"),
        ("", 73, "conflict"),
        ("", 74, "storage"),
        ("", 75, "stopped"),
        ("", 77, "access"),
        ("", 78, "software"),
        ("", 143, "stopped"),
        ("", 1, "bug"),
        ("", 42, "unknown"),
        ("", None, "unknown"),
    ],
)
def test_reasons_have_kinds(text: str, exit_code: int | None, kind: str) -> None:
    assert kind_of([text], exit_code) == kind


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["hqclip train: step 1", "hqclip train: it broke", "bye"], "hqclip train: it broke"),
        (
            ["Traceback (most recent call last):", '  File "x"', "ValueError: three", "exit status 1"],
            "ValueError: three",
        ),
        (["a", "torch.OutOfMemoryError: CUDA", ""], "torch.OutOfMemoryError: CUDA"),
        (["a", "b", "  "], "b"),
        ([], ""),
    ],
)
def test_one_line_tells_most(lines: list[str], line: str) -> None:
    assert telling_line(lines) == line
