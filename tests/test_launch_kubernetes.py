"""A stage on a cluster: started once however often it is asked for, followed, explained, and ended when it must."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import ConflictError
from hqclip.launch import watch
from hqclip.launch.exit_status import ExitStatus
from hqclip.launch.follow import follow_pod
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.run import LaunchError, launch
from hqclip.launch.spec import LaunchSpec
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, IMAGE, JOBS, LOOK, PLURAL, Pods, posts, settings, spec

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("at_once")


def test_a_job_is_created_followed_and_its_result_is_the_stages(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        names = pods.start()
        cluster.log(names[0], "step 1", "step 2")

    cluster.then("GET", r"/events\?", work)  # once it is asked why there are none
    cluster.then("GET", "/log", lambda: pods.succeed(model="runs/000001-hqclip/model"))
    told: list[Any] = []
    result = launch(spec(tmp_path, scheduler, gpus=4, nproc=2), "train", settings(tmp_path), tell=told.append)
    assert told == [
        {"name": pods.name, "namespace": "training", "scheduler": scheduler, "key": f"{pods.name}/1", "gpus": 4},
        {"verdict": "succeeded", "reason": told[1]["reason"], "attempts": 1, "restarts": 0},
    ]
    cluster.assert_all_faults_fired()
    assert result["model"] == "runs/000001-hqclip/model"
    assert result["launch"] | {"seconds": 0, "queued_seconds": 0} == {
        "job": pods.name,
        "key": f"{pods.name}/1",
        "scheduler": scheduler,
        "nodes": 2,
        "gpus": 4,
        "attempts": 1,
        "restarts": 0,
        "node_hours": 1.0,
        "queued_seconds": 0,
        "seconds": 0,
    }
    said = capsys.readouterr().err
    assert f"{pods.name} is pending, 0 of 2 pods run" in said
    assert f"{pods.name} is running, 2 of 2 pods run" in said
    assert said.count("step 1\n") == said.count("step 2\n") == 1
    kept = list(pods.store.list(f"launch/{pods.name}/1/logs/"))
    assert len(kept) == 1 and pods.store.read(kept[0]) == b"step 1\nstep 2\n"


def test_the_same_launch_again_finds_the_job_that_runs(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = subprocess.Popen(_command(scheduler, tmp_path), cwd=ROOT, stderr=subprocess.DEVNULL)
    cluster.until(lambda: cluster.names(PLURAL[scheduler]))
    pods.start()
    first.kill()  # no handler, no clean-up: the job runs on by itself
    assert first.wait() == -signal.SIGKILL
    cluster.then("GET", LOOK, lambda: pods.succeed(model="m"), skip=2)
    assert launch(spec(tmp_path, scheduler), "train", settings(tmp_path))["model"] == "m"
    assert posts(cluster) == 1
    assert "is there already (running) and is followed" in capsys.readouterr().err
    assert list(pods.store.list(f"launch/{pods.name}/"))[0] == f"launch/{pods.name}/1/attempts/0-0001.end.json"


def test_sigterm_to_the_launcher_deletes_the_job_before_anything_else(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    command = _command(scheduler, tmp_path)
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        cluster.until(lambda: cluster.names(PLURAL[scheduler]))
        pods.start()
        name, before = pods.name, len(cluster.requests)
        cluster.until(lambda: len(cluster.requests) > before + 3)
        launcher.send_signal(signal.SIGTERM)
        cluster.until(lambda: not cluster.names(PLURAL[scheduler]))
        assert launcher.wait(600) == 143
        assert launcher.stderr is not None
        assert f"stopped, and {name} with it" in launcher.stderr.read()
    assert cluster.names("pods") == []
    asked = [request.method for request in cluster.requests if request.path.endswith(name)]
    assert asked[-1] == "DELETE"


def test_a_launcher_that_detaches_leaves_the_job_alone(cluster: FakeCluster, scheduler: str, tmp_path: Path) -> None:
    command = [*_command(scheduler, tmp_path), "--on-termination", "detach"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        cluster.until(lambda: cluster.names(PLURAL[scheduler]))
        before = len(cluster.requests)
        cluster.until(lambda: len(cluster.requests) > before + 2)
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=600)
        assert launcher.returncode == 143
        assert "goes on by itself" in said
    assert len(cluster.names(PLURAL[scheduler])) == 1


def test_ctrl_c_ends_the_watching_and_not_the_job(cluster: FakeCluster, scheduler: str, tmp_path: Path) -> None:
    with subprocess.Popen(_command(scheduler, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        cluster.until(lambda: cluster.names(PLURAL[scheduler]))
        before = len(cluster.requests)
        cluster.until(lambda: len(cluster.requests) > before + 2)
        launcher.send_signal(signal.SIGINT)
        _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 130
    assert "goes on by itself, for 1800 s; the same command follows it again, `hqclip jobs cancel` ends it" in said
    assert len(cluster.names(PLURAL[scheduler])) == 1


def test_sigterm_while_the_server_does_not_answer_says_what_goes_on(
    cluster: FakeCluster, scheduler: str, tmp_path: Path
) -> None:
    with subprocess.Popen(_command(scheduler, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        cluster.until(lambda: cluster.names(PLURAL[scheduler]))
        before = len(cluster.requests)
        cluster.until(lambda: len(cluster.requests) > before + 2)
        cluster.fail("DELETE", JOBS, 503, times=5)
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 143
    assert "could not be deleted" in said and "goes on by itself, for 1800 s" in said


def _command(scheduler: str, tmp_path: Path) -> list[str]:
    flags = {**settings(tmp_path), "scheduler": scheduler, "image": IMAGE, "nodes": 2, "cpus": 1}
    words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    more = ["--volumes", f"claim:shared:{tmp_path}", "--pending-timeout-s", "60"]
    return [sys.executable, "-m", "hqclip.cli", "launch", "run", "train", *words, *more]


def test_of_two_launchers_the_slower_follows_the_job_of_the_quicker(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    body: list[dict[str, Any]] = []
    lost = cluster.commit_then_drop("POST", CREATE)  # the other one's POST: it arrived, and this one's is refused
    cluster.then("GET", LOOK, lambda: body.append(pods.job), skip=2)
    cluster.then("GET", LOOK, lambda: (pods.start(), pods.succeed(model="m")), skip=3)
    assert launch(spec(tmp_path, scheduler), "train", settings(tmp_path))["model"] == "m"
    assert lost.fired == 1 and len(cluster.names(PLURAL[scheduler])) == 1
    assert body[0]["metadata"]["annotations"]["hqclip/key"] == pods.key


def test_a_name_that_stands_for_other_machines_is_refused_while_it_runs(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        _launch_and(cluster, lambda: 1 / 0, spec(tmp_path, scheduler), settings(tmp_path))
    pods.start()
    with pytest.raises(ConflictError, match="is running with other settings or machines.*hqclip jobs cancel --job"):
        launch(spec(tmp_path, scheduler, nodes=4), "train", settings(tmp_path))
    assert posts(cluster) == 1


def _launch_and(cluster: FakeCluster, do: Callable[[], object], spec: LaunchSpec, settings: dict[str, Any]) -> None:
    """Launch, and leave with what `do` raises at the first look."""

    def leave(*_: object) -> None:
        do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.Watch, "to_the_end", leave)
        launch(spec, "train", settings)


def test_a_failure_names_the_rank_that_broke_first_and_ends_with_its_code(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    follows = ExitStatus(exit_code=1, rank=0, message="connection closed by peer", timestamp=101.0)
    cause = ExitStatus(exit_code=65, rank=11, message="shards/7.tar: cut", traceback="Traceback ...", timestamp=100.0)
    cluster.then("GET", LOOK, pods.start, skip=2)
    cluster.then("GET", LOOK, lambda: pods.fail(follows, cause, restarts=1), skip=3)
    told: list[Any] = []
    with pytest.raises(LaunchError) as failure:
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path), tell=told.append)
    said = str(failure.value)
    assert failure.value.exit_code == 65
    assert (told[0]["name"], told[1]["verdict"], told[1]["restarts"]) == (pods.name, "failed", 1)
    assert "rank 11 on node 1 ended with exit code 65 in attempt 1 (1 restarts): shards/7.tar: cut" in said
    assert "Traceback ..." in said and f"launch/{pods.name}/1/logs" in said


def test_what_failed_for_good_fails_again_at_once_until_it_is_asked_for_again(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    for_good = ExitStatus(exit_code=64, rank=0, message="unknown model 'ViT-B-23'", timestamp=100.0)
    cluster.then("GET", LOOK, pods.start, skip=2)
    cluster.then("GET", LOOK, lambda: pods.fail(for_good, for_good), skip=3)
    for _ in range(2):
        with pytest.raises(LaunchError, match="unknown model 'ViT-B-23'"):
            launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert posts(cluster) == 1
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    assert (
        launch(spec(tmp_path, scheduler, again=True), "train", settings(tmp_path))["launch"]["key"] == f"{pods.name}/2"
    )


def test_what_failed_for_good_in_another_run_of_the_pipeline_is_tried_in_this_one(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    for_good = ExitStatus(exit_code=65, rank=0, message="no usable sample", timestamp=100.0)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.fail(for_good)))
    with pytest.raises(LaunchError, match="no usable sample"):
        launch(spec(tmp_path, scheduler, launch_id="monday"), "train", settings(tmp_path))
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    result = launch(spec(tmp_path, scheduler, launch_id="tuesday"), "train", settings(tmp_path))
    assert result["launch"]["key"] == f"{pods.name}/2"


def test_what_failed_by_bad_luck_is_started_anew(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    crash = ExitStatus(exit_code=137, rank=3, message="rank 3 was ended by SIGKILL", timestamp=100.0)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.fail(crash)))
    with pytest.raises(LaunchError, match="SIGKILL"):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    result = launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert result["launch"]["key"] == f"{pods.name}/2" and posts(cluster) == 2


def test_a_job_that_is_being_deleted_is_waited_for(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    with pytest.raises(ZeroDivisionError):
        _launch_and(cluster, lambda: 1 / 0, spec(tmp_path, scheduler), settings(tmp_path))
    plural, name = PLURAL[scheduler], pods.name
    cluster.hold(plural, name)
    cluster.delete(plural, name)
    cluster.then("GET", LOOK, lambda: cluster.release(plural, name), skip=1)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    assert launch(spec(tmp_path, scheduler), "train", settings(tmp_path))["launch"]["key"] == f"{name}/2"


def test_logs_of_every_attempt_are_shown_and_kept(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def attempt(number: int) -> None:
        names = pods.start(attempt=number)
        cluster.log(names[0], *(f"attempt {number} line {n}" for n in range(6)))

    def work() -> None:
        cluster.until(lambda: cluster.names(PLURAL[scheduler]))
        attempt(0)
        pods.end(1)
        while len(list(pods.store.list("launch/"))) < 3:  # job, lease and the first log
            time.sleep(0.01)
        attempt(1)
        pods.succeed()

    working = threading.Thread(target=work, daemon=True)
    working.start()
    launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    working.join(60)
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("attempt")]
    assert shown == [f"attempt {number} line {n}" for number in range(2) for n in range(6)]
    assert len(list(pods.store.list(f"launch/{pods.key}/logs/"))) == 2


def test_a_log_that_breaks_off_is_taken_up_where_it_was(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        _launch_and(cluster, lambda: 1 / 0, spec(tmp_path, pods.scheduler), settings(tmp_path))
    name = pods.start()[0]
    cluster.log(name, *(f"line {n}" for n in range(9)))
    cluster.drop_log_after(name, 3)
    cluster.drop_log_after(name, 4)
    pods.end(0)
    lines = list(follow_pod(connect(), cluster.get("pods", name), lambda _: False))
    assert lines == [f"line {n}" for n in range(9)]
    cluster.assert_all_faults_fired()


def test_a_log_that_is_gone_has_no_lines(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZeroDivisionError):
        _launch_and(cluster, lambda: 1 / 0, spec(tmp_path, pods.scheduler), settings(tmp_path))
    pod = cluster.get("pods", pods.start()[0])
    pods.end(0)
    said = ["2026-11-28T11:35:00.1Z the last line", "unable to retrieve container logs for containerd://47637c0e"]
    monkeypatch.setattr(Cluster, "log_lines", lambda *_, **__: iter(said))
    assert list(follow_pod(connect(), pod, lambda _: False)) == ["the last line"]


def test_inside_kubeflow_the_job_belongs_to_the_workflow_and_its_run(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = {"workflows.argoproj.io/workflow": "refine-x7", "pipeline/runid": "4f1c-22"}
    cluster.add("workflows", {"metadata": {"name": "refine-x7"}})
    cluster.add("pods", {"metadata": {"name": "refine-x7-launcher", "labels": labels}, "spec": {"containers": []}})
    monkeypatch.setenv("KFP_POD_NAME", "refine-x7-launcher")
    cluster.then("POST", CREATE, lambda: (pods.phase("Completed"), _leave_result(pods)))
    launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    metadata = pods.job["metadata"]
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "argoproj.io/v1alpha1",
            "kind": "Workflow",
            "name": "refine-x7",
            "uid": cluster.get("workflows", "refine-x7")["metadata"]["uid"],
            "controller": False,
            "blockOwnerDeletion": False,
        }
    ]
    assert metadata["labels"]["hqclip/launch-id"] == "4f1c-22"
    cluster.delete("workflows", "refine-x7")
    assert cluster.names(PLURAL[scheduler]) == []


def _leave_result(pods: Pods) -> None:
    pods.store.write(f"launch/{pods.key}/result.json", b"{}")


def test_a_dry_run_on_the_server_creates_nothing(cluster: FakeCluster, scheduler: str, tmp_path: Path) -> None:
    command = [*_command(scheduler, tmp_path), "--dry-run=server"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["metadata"]["uid"]
    assert cluster.names(PLURAL[scheduler]) == [] and posts(cluster) == 1
    refused = subprocess.run(
        [*command, "--namespace", "elsewhere"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 64 and "elsewhere" in refused.stderr
