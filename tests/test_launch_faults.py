"""What keeps a job on a cluster from its end: no machines, no image, no word, no right, and a server that is busy."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import AccessError, ConfigError, HQClipError, TimeLimitError, UnavailableError
from hqclip.launch import watch
from hqclip.launch.follow import PAUSE_S, Follower
from hqclip.launch.kube import connect
from hqclip.launch.pods import PodRow
from hqclip.launch.run import LaunchError, launch
from hqclip.store import open_store
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, LOOK, PLURAL, PODS, Pods, nobody_follows, settings, spec, write_kubeconfig

pytestmark = pytest.mark.usefixtures("at_once")


def test_a_job_that_gets_no_machines_is_given_up_with_the_reason(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    def wait() -> None:
        reason = {"reason": "NotEnoughResources", "message": "16 GPUs short"}
        if scheduler == "volcano":
            cluster.podgroup(pods.name, "Pending", [{"type": "Unschedulable", "status": "True", **reason}])
        else:
            cluster.workload(pods.name, [{"type": "QuotaReserved", "status": "False", **reason}])

    cluster.then("POST", CREATE, wait)
    queue = {} if scheduler == "volcano" else {"queue": "research"}
    told: list[Any] = []
    with pytest.raises(TimeLimitError, match=r"got no machines in .*pending_timeout_s.*16 GPUs short"):
        launch(spec(tmp_path, scheduler, pending_timeout_s=0.2, **queue), "train", settings(tmp_path), tell=told.append)
    assert (told[0]["scheduler"], told[1]["verdict"]) == (scheduler, "failed")
    assert "got no machines" in told[1]["reason"]
    assert cluster.names(PLURAL[scheduler]) == []


def test_an_image_that_cannot_be_pulled_ends_the_wait(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HOPELESS_S", 0.1)

    def wait() -> None:
        for name in cluster.start_pods(pods.name, phase="Pending"):
            cluster.pod_phase(name, "Pending", "ImagePullBackOff", 'Back-off pulling image "hqclip/trian"')

    cluster.then("POST", CREATE, wait)
    with pytest.raises(ConfigError, match=r"cannot start: ImagePullBackOff: .*hqclip/trian"):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert cluster.names(PLURAL[scheduler]) == []


def test_a_pod_that_cannot_pull_once_others_have_run_is_waited_for(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "HOPELESS_S", 0.1)

    def replace() -> None:
        cluster.pod_phase(cluster.names("pods")[0], "Pending", "ErrImagePull", "429 toomanyrequests")
        threading.Timer(1.5, lambda: pods.succeed(model="m")).start()  # many times what is hopeless

    cluster.then("POST", CREATE, pods.start)
    cluster.then("GET", PODS, replace)
    assert launch(spec(tmp_path, scheduler), "train", settings(tmp_path))["model"] == "m"


def test_a_kill_that_left_no_word_is_told_by_the_pod(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    def run_out_of_memory() -> None:
        names = pods.start()
        cluster.end_pod(names[1], 137, reason="OOMKilled")
        pods.phase("Failed", 0, "FailedJobs", "a pod failed")

    cluster.then("POST", CREATE, run_out_of_memory)
    with pytest.raises(LaunchError, match=r"was killed: [\w-]+: OOMKilled.*more memory") as refusal:
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert refusal.value.exit_code == 137


@pytest.mark.parametrize("code", [400, 500, 503])
def test_who_cannot_read_a_log_stops_asking_when_nobody_watches(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, code: int
) -> None:
    def fail_beside_a_pod_that_runs() -> None:
        cluster.end_pod(pods.start()[1], 1)
        pods.phase("Failed", 0, "FailedJobs", "a pod failed")

    cluster.fail("GET", "/log", code, times=1_000_000)
    cluster.then("POST", CREATE, fail_beside_a_pod_that_runs)
    with pytest.raises(LaunchError):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    nobody_follows()
    assert cluster.names("pods")


def test_a_log_that_cannot_be_read_is_not_asked_for_without_a_pause(cluster: FakeCluster, tmp_path: Path) -> None:
    cluster.add("pods", {"metadata": {"name": "p"}, "spec": {"containers": []}, "status": {"phase": "Running"}})
    cluster.fail("GET", "/log", 503, times=1_000_000)
    follower = Follower(connect(), open_store(str(tmp_path)), "launch/p/1", whose="all")
    follower.look([PodRow(0, "p", "Running")])
    cluster.until(lambda: cluster.requests)
    follower.finish(2 * PAUSE_S)
    follower.stop()
    assert len(cluster.requests) < 12


def test_a_job_that_writes_nothing_for_too_long_is_given_up(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    cluster.then("POST", CREATE, pods.start)
    with pytest.raises(UnavailableError, match="has written nothing below runs/000001-hqclip/checkpoints/"):
        launch(spec(tmp_path, scheduler, stall_timeout_s=0.2), "train", settings(tmp_path))
    assert cluster.names(PLURAL[scheduler]) == []


def test_a_job_that_runs_for_too_long_is_given_up(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    cluster.then("POST", CREATE, pods.start)
    with pytest.raises(TimeLimitError, match="running_timeout_s"):
        launch(spec(tmp_path, scheduler, running_timeout_s=1.0), "train", settings(tmp_path))
    assert cluster.names(PLURAL[scheduler]) == []


def test_a_job_that_somebody_deletes_is_said_to_be_gone(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path
) -> None:
    cluster.then("POST", CREATE, pods.start)
    cluster.then("GET", LOOK, lambda: cluster.delete(PLURAL[scheduler], pods.name), skip=3)
    with pytest.raises(LaunchError, match="was deleted by somebody else"):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_that_is_busy_is_asked_again(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, code: int
) -> None:
    cluster.fail("POST", CREATE, code, times=2, retry_after=0 if code == 429 else None)
    cluster.drop("GET", LOOK, times=2, skip=1)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    assert launch(spec(tmp_path, scheduler), "train", settings(tmp_path))["model"] == "m"
    cluster.assert_all_faults_fired()


def test_a_missing_operator_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    other = {"volcano": "jobsets", "jobset": "jobs.batch.volcano.sh"}[scheduler]
    with FakeCluster(installed=[other, "queues"]) as bare:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "bare", bare.url)))
        with pytest.raises(HQClipError, match="this cluster serves no .*install (Volcano|JobSet)") as refusal:
            launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert refusal.value.exit_code == 64


def test_a_missing_right_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str) -> None:
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    with FakeCluster(rules=rules) as strict:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "strict", strict.url)))
        with pytest.raises(AccessError, match="serviceaccount:training:launcher.* cannot create resource"):
            launch(spec(tmp_path, scheduler), "train", settings(tmp_path))


def test_a_queue_that_does_not_exist_is_named(cluster: FakeCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reserach"):
        launch(spec(tmp_path, "volcano", queue="reserach"), "train", settings(tmp_path))
    assert cluster.names("jobs") == []


def test_a_namespace_that_does_not_exist_is_named(cluster: FakeCluster, scheduler: str, tmp_path: Path) -> None:
    with pytest.raises(HQClipError, match="there is no namespace 'elsewhere'") as refusal:
        launch(spec(tmp_path, scheduler, namespace="elsewhere"), "train", settings(tmp_path))
    assert refusal.value.exit_code == 64


def test_without_a_cluster_it_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    with pytest.raises(HQClipError, match="no Kubernetes cluster.*KUBECONFIG .*nothing") as refusal:
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert refusal.value.exit_code == 78
