"""`status`, `logs`, `explain` and `cancel`: what a run does, what it said, why it broke, and its end."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle import lock
from hqclip.errors import AccessError, ConfigError, NotFoundError, UnavailableError
from hqclip.store import open_store
from pipelines.client import cancel, explain, pods, runs, tasks
from pipelines.client.explain import kind_of, telling_line
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call, look_at_once, write_package
from tests.fakes.kubernetes import FakeCluster
from tests.jobs import Jobs
from tests.launching import PLURAL, write_kubeconfig

Read = pytest.CaptureFixture[str]
Start = Callable[..., str]
POD = "hqclip-small-x7k2p-system-container-impl-{}"
NO_CLUSTER = "no Kubernetes cluster"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    look_at_once(monkeypatch)
    with FakeKubeflow() as fake:
        monkeypatch.setenv("HQCLIP_KFP_HOST", fake.url)
        yield fake


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Pods and jobs are in Kubeflow's own namespace; the kubeconfig is for work in another."""
    with FakeCluster(namespace="kubeflow") as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        yield cluster


@pytest.fixture
def start(fake: FakeKubeflow, tmp_path: Path, capsys: Read) -> Start:
    """`start(plan_launch="gs://...")`: a run that is under way; its id."""
    package = write_package(tmp_path)

    def start(name: str = "", experiment: str = "hqclip", **inputs: str) -> str:
        words = ["--experiment", experiment]
        words += [word for key, value in inputs.items() for word in ("--set", f"{key}={value}")]
        words += ["--name", name] if name else []
        assert call(runs, package, "--set", "store=gs://bucket/hq", *words, "-o", "json") == 0
        run_id = str(json.loads(capsys.readouterr().out)["run_id"])
        fake.state(run_id, "RUNNING")
        return run_id

    return start


def add_pod(cluster: FakeCluster, run_id: str, name: str, *lines: str, **ended: Any) -> str:
    """A pod of a run as Argo makes them, with what its main container said; `ended`: exitCode, reason, message."""
    state = {"terminated": {"exitCode": 0, "reason": "Completed", **ended}} if ended else {"running": {}}
    containers = [{"name": name, "image": "x"} for name in ("wait", "main")]
    statuses = [{"name": container["name"], "state": state} for container in containers]
    cluster.add(
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
    cluster.log(name, *lines, container="main")
    return name


def ended_with(code: int) -> str:
    """What Kubeflow's launcher says of the stage it ran, before it ends with 1 itself."""
    return f"F1125 12:00:00.000001      17 main.go:60] failed to execute component: exit status {code}"


def shown(capsys: Read) -> Any:
    return json.loads(capsys.readouterr().out)


# status


def test_a_run_is_shown_with_its_tasks(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start("friday")
    fake.task(run_id, "root-driver", "SUCCEEDED")
    fake.task(run_id, "plan", "SUCCEEDED")
    fake.task(run_id, "train", "FAILED", error="exit code 65")
    fake.finish(run_id, "FAILED")
    assert call(tasks, run_id, "-o", "json") == 0
    told = shown(capsys)
    assert (told["name"], told["state"]) == ("friday", "FAILED")
    assert [(task["task"], task["state"], task["error"]) for task in told["tasks"]] == [
        ("plan", "SUCCEEDED", ""),
        ("train", "FAILED", "exit code 65"),
    ]
    assert call(tasks, run_id) == 0
    person = capsys.readouterr()
    assert f"{fake.url}/#/runs/details/{run_id}" in person.out
    assert "TASK   STATE" in person.out
    assert f"python -m pipelines explain {run_id}" in person.err


def test_a_run_is_found_by_the_start_of_its_id_by_its_name_or_as_the_latest(
    fake: FakeKubeflow, start: Start, capsys: Read
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


def test_a_task_may_bear_the_name_of_its_run(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start("train")
    fake.task(run_id, "train", "FAILED", error="exit code 65", pod="a-task")
    root = {"run_id": run_id, "task_id": "root", "display_name": "train", "state": "FAILED", "pod_name": "a-root"}
    fake.runs[run_id]["run_details"]["task_details"].append({**root, "child_tasks": [{"pod_name": "a-task"}]})
    assert call(tasks, run_id, "-o", "json") == 0
    assert [(task["task"], task["error"]) for task in shown(capsys)["tasks"]] == [("train", "exit code 65")]


def test_runs_are_listed_the_newest_first(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    for name in ("one", "two", "three"):
        start(name)
    assert call(tasks, "--limit", 2, "-o", "json") == 0
    assert [row["name"] for row in shown(capsys)] == ["three", "two"]
    assert call(tasks, "--experiment", "hqclip", "-o", "json") == 0
    assert len(shown(capsys)) == 3
    with pytest.raises(NotFoundError, match="no experiment 'nothing'"):
        call(tasks, "--experiment", "nothing")


# logs


def test_logs_are_those_of_the_tasks_and_not_of_kubeflows_own_pods(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id, other = start(), start()
    add_pod(cluster, run_id, "hqclip-small-x7k2p-system-container-driver-1", "driving")
    add_pod(cluster, other, POD.format(9), "somebody else")
    for number, task in enumerate(("plan", "train")):
        fake.task(run_id, task, "RUNNING", pod=add_pod(cluster, run_id, POD.format(number), f"{task}: 1", f"{task}: 2"))
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
    fake: FakeKubeflow, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    with pytest.raises(UnavailableError, match=rf"{NO_CLUSTER}.*#/runs/details/{run_id}; .*`hqclip jobs logs`"):
        call(pods, run_id)
    with FakeCluster() as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        with pytest.raises(NotFoundError, match=rf"no pods of run {run_id} are left.*#/runs/details/{run_id}"):
            call(pods, run_id)
    with FakeCluster(rules=[]) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        with pytest.raises(AccessError, match=r"cannot list resource .*see them in the UI"):
            call(pods, run_id)


# explain


def test_a_failure_is_explained_by_what_the_stage_said(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    fault = "hqclip curate: gs://b/0.tar: 312 of 10000 samples have no image"
    said = ["a tool ended with exit status 1", fault, "hqclip curate: 3 of 9 shards, 1/s"]
    pod = add_pod(cluster, run_id, POD.format(1), *said, ended_with(65), exitCode=1, reason="Error")
    fake.task(run_id, "curate", "FAILED", error="main: Error (exit code 1)", pod=pod)
    fake.finish(run_id, "FAILED")
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
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read, lines: list[str], kind: str
) -> None:
    run_id = start()
    pod = add_pod(cluster, run_id, POD.format(1), *lines, exitCode=1, reason="Error")
    fake.task(run_id, "train", "FAILED", error="main: Error (exit code 1)", pod=pod)
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert reason["reason"] == kind


def test_a_killed_container_is_out_of_memory(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    pod = add_pod(cluster, run_id, POD.format(1), "epoch 1", exitCode=137, reason="OOMKilled")
    fake.task(run_id, "score", "FAILED", error="main: OOMKilled", pod=pod)
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id) == 0
    told = capsys.readouterr().out
    assert "out_of_memory" in told
    assert "smaller batches" in told


def test_only_what_broke_by_itself_is_blamed_the_first_first(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    fake.task(run_id, "refine", "RUNNING")
    for name in ("score", "annotate"):
        fake.task(run_id, name, "RUNNING", parent="refine")
        fake.task(run_id, name, "FAILED", error=f"{name}: exit code 1")
    fake.task(run_id, "refine", "FAILED")
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    read = capsys.readouterr()
    assert [reason["task"] for reason in json.loads(read.out)["reasons"]] == ["score", "annotate"]
    assert f"pods were not looked at: {NO_CLUSTER}" in read.err


def test_what_kubeflow_lists_as_executor_belongs_to_its_task(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    said = "hqclip train: the loss is not a number"
    pod = add_pod(cluster, run_id, POD.format(1), said, ended_with(65), exitCode=1, reason="Error")
    fake.task(run_id, "train", "FAILED")
    fake.task(run_id, "executor", "FAILED", error="main: Error (exit code 1)", pod=pod, parent="train")
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert (reason["task"], reason["reason"], reason["line"]) == ("train", "data", said)
    assert call(pods, run_id) == 0
    assert capsys.readouterr().out == f"[train] {said}\n[train] {ended_with(65)}\n"


def test_each_turn_of_a_loop_is_explained_by_its_own_pod(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    for number in (1, 2):
        pod = add_pod(cluster, run_id, POD.format(number), f"hqclip train: trial {number}", exitCode=1, reason="Error")
        fake.task(run_id, f"train-{number}", "FAILED", pod=pod)["display_name"] = "train"
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    assert [reason["line"] for reason in shown(capsys)["reasons"]] == ["hqclip train: trial 1", "hqclip train: trial 2"]


def test_a_launched_stage_is_explained_by_its_job(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    fake.task(run_id, "train", "FAILED", error="hqclip launch: rank 3 was killed (exit code 70)")
    fake.finish(run_id, "FAILED")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert reason["next"].startswith("hqclip jobs list, then hqclip jobs logs --job JOB")
    assert "gs://bucket/hq/launch/" in reason["advice"]
    assert reason["reason"] == "crash_loop"


def test_a_run_without_a_failed_task_says_what_is_known(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(explain, run_id) == 0
    assert capsys.readouterr().out == f"run {run_id} is RUNNING: no task of it failed\n"
    fake.finish(run_id, "FAILED", error="the workflow is too large")
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


# cancel


@pytest.mark.parametrize("scheduler", PLURAL)
def test_the_jobs_of_a_run_go_first_then_the_run(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, tmp_path: Path, capsys: Read, scheduler: str
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    jobs = Jobs(cluster, scheduler, str(tmp_path / "store"))
    own, other = jobs.add("000001-a", launch_id=run_id), jobs.add("000001-b", launch_id="another-run")
    left_at_the_end: list[list[str]] = []
    fake.then("POST", ":terminate$", lambda: left_at_the_end.append(list(jobs.names)))
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys) == {"run_id": run_id, "state": "CANCELING", "jobs_deleted": [own]}
    assert left_at_the_end == [[other]]


def test_jobs_that_are_looked_for_in_the_wrong_place_are_not_taken_for_gone(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    fake.task(run_id, "train", "RUNNING")
    own = Jobs(cluster, "volcano", str(tmp_path / "store")).add("000001-a", launch_id=run_id)
    said = rf"no job of it was found in namespace ml, though train was under way.*cancel {run_id} --jobs-namespace"
    with pytest.raises(UnavailableError, match=said):
        call(cancel, run_id, "--namespace", "ml")
    assert fake.runs[run_id]["state"] == "CANCELED"
    capsys.readouterr()
    assert call(cancel, run_id, "--jobs-namespace", "kubeflow", "-o", "json") == 0
    assert shown(capsys)["jobs_deleted"] == [own]


def test_a_run_that_is_not_launching_has_no_jobs_to_miss(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    fake.task(run_id, "train", "SUCCEEDED")
    fake.task(run_id, "promote", "RUNNING")
    assert call(cancel, run_id) == 0
    assert "no job of it is in namespace kubeflow" in capsys.readouterr().err


def test_a_lock_on_a_store_that_is_not_here_is_said_to_be_left(start: Start, tmp_path: Path, capsys: Read) -> None:
    run_id = start(store=str(tmp_path / "mounted-elsewhere"))
    assert call(cancel, run_id) == 0
    assert f"its lock on {tmp_path}/mounted-elsewhere was not freed" in capsys.readouterr().err
    assert not (tmp_path / "mounted-elsewhere").exists()


def test_a_job_that_a_launcher_starts_meanwhile_goes_too(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    jobs = Jobs(cluster, "volcano", str(tmp_path / "store"))
    fake.then("POST", ":terminate$", lambda: jobs.add("000001-late", launch_id=run_id))
    assert call(cancel, run_id, "-o", "json") == 0
    assert len(shown(capsys)["jobs_deleted"]) == 1
    assert jobs.names == []


def test_what_has_ended_is_let_be_but_its_jobs_are_not(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    own = Jobs(cluster, "volcano", str(tmp_path / "store")).add("000001-a", launch_id=run_id)
    fake.finish(run_id, "FAILED")
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys) == {"run_id": run_id, "state": "FAILED", "jobs_deleted": [own]}
    assert not fake.asked("POST", ":terminate")


def test_a_run_that_ends_while_it_is_cancelled_is_no_fault(
    fake: FakeKubeflow, cluster: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    fake.then("GET", f"/runs/{run_id}", lambda: fake.finish(run_id))
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys)["state"] == "SUCCEEDED"


def test_a_cancelled_run_keeps_nobody_out_of_its_store(
    cluster: FakeCluster, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    run_id = start(store=store.uri)
    monkeypatch.delenv(lock.LOCAL_RUN, raising=False)
    assert lock.take(store, run_id, 1) == ""
    assert lock.take(store, "the next run", 1)
    assert call(cancel, run_id) == 0
    assert lock.take(store, "the next run", 1) == ""


def test_jobs_out_of_reach_are_said_and_the_run_is_terminated(fake: FakeKubeflow, start: Start) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    said = rf"jobs were not deleted, and may hold GPUs: {NO_CLUSTER}.*hqclip jobs cancel --of {run_id}"
    with pytest.raises(UnavailableError, match=said) as caught:
        call(cancel, run_id)
    assert caught.value.exit_code == 69
    assert fake.runs[run_id]["state"] == "CANCELED"


def test_a_cluster_that_does_not_answer_does_not_hold_up_the_cancel(
    fake: FakeKubeflow, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "PATIENCE_S", 0.2)
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        with pytest.raises(UnavailableError, match="the run is terminated, but its jobs"):
            call(cancel, run_id)
    assert fake.runs[run_id]["state"] == "CANCELED"


def test_a_run_that_launches_nothing_needs_no_cluster(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(cancel, run_id) == 0
    assert "launches no jobs" in capsys.readouterr().err


def test_a_dry_cancel_touches_nothing(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(cancel, "latest", "--dry-run", "-o", "json") == 0
    assert shown(capsys) == {"run_id": run_id, "state": "RUNNING", "deletes_jobs_of": run_id}
    assert fake.runs[run_id]["state"] == "RUNNING"


def test_a_cancel_whose_answer_got_lost_is_sent_again(fake: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    fake.commit_then_drop("POST", ":terminate")
    assert call(cancel, run_id) == 0
    assert len(fake.asked("POST", ":terminate")) == 2
    assert fake.runs[run_id]["state"] == "CANCELED"


def test_less_than_one_run_cannot_be_listed(fake: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="--limit is -1; give 1 or more"):
        call(tasks, "--limit", "-1")
