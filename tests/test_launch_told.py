"""What a launcher tells as people see it: restarts, stops, time, who holds a job back, what a server said."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from hqclip import progress
from hqclip.errors import ConfigError, ConflictError, HQClipError, TerminatedError, UnavailableError
from hqclip.launch import attempts, run, watch
from hqclip.launch.config import JobsListConfig
from hqclip.launch.diagnose import why_pending
from hqclip.launch.exit_status import STOPPED, TERMINATED, ExitStatus
from hqclip.launch.job import folder
from hqclip.launch.jobs import list_jobs
from hqclip.launch.kube import connect
from hqclip.launch.pods import job_pods
from hqclip.launch.registry import load
from hqclip.launch.run import LaunchError, launch
from hqclip.launch.submit import create
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, LOOK, PATIENCE_S, PLURAL, Pods, settings, spec, write_kubeconfig
from tests.rendering import rendered
from tests.test_launch_kubernetes import ROOT, _command, _launch_and

pytestmark = pytest.mark.usefixtures("at_once")
FORGOT = "0/0 tasks in gang unschedulable: pod group is not ready, 2 minAvailable"


def left(cluster: FakeCluster, pods: Pods, tmp_path: Path, **given: Any) -> str:
    """A job that nobody watches; its name."""
    with pytest.raises(ZeroDivisionError):
        _launch_and(cluster, lambda: 1 / 0, spec(tmp_path, pods.scheduler, **given), settings(tmp_path))
    return pods.name


def why(pods: Pods) -> str:
    cluster, scheduler = connect(), load(pods.scheduler)
    return why_pending(cluster, scheduler, pods.job, job_pods(cluster, scheduler, pods.name))


def podgroup(cluster: FakeCluster, pods: Pods, conditions: list[dict[str, Any]] | None = None) -> str:
    return cluster.podgroup(pods.name, "Pending", conditions)


@pytest.fixture
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(getattr(request, "param", "volcano"))


BOTH = pytest.mark.parametrize("scheduler", list(PLURAL), indirect=True)
JOBSET = pytest.mark.parametrize("scheduler", ["jobset"], indirect=True)


@pytest.mark.parametrize("told_first", [True, False])
def test_volcanos_reason_is_the_event_that_says_something(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, told_first: bool
) -> None:
    left(cluster, pods, tmp_path)
    group = podgroup(cluster, pods)
    events = [("Warning", FORGOT), ("Normal", "queue resource quota insufficient: insufficient cpu")]
    for kind, message in events if told_first else reversed(events):
        cluster.event("PodGroup", group, "Unschedulable", message, type=kind)
    assert why(pods) == "Unschedulable: queue resource quota insufficient: insufficient cpu"


def test_if_volcano_says_nothing_more_that_is_told(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    left(cluster, pods, tmp_path)
    cluster.event("PodGroup", podgroup(cluster, pods), "Unschedulable", FORGOT)
    assert why(pods) == f"Unschedulable: {FORGOT}"


def test_a_quota_is_told_by_the_job_and_not_by_its_pod_group(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    name = left(cluster, pods, tmp_path)
    podgroup(cluster, pods, [{"type": "Unschedulable", "status": "True", "reason": "NotEnough", "message": FORGOT}])
    refused = 'pods "x" is forbidden: exceeded quota: small, requested: cpu=4, used: cpu=0, limited: cpu=2'
    cluster.event("Job", name, "FailedCreate", f"Error creating pods: [{refused}]")
    assert why(pods) == f"FailedCreate: Error creating pods: [{refused}]"


@BOTH
@pytest.mark.parametrize("harmless", ["FailedToRetrieveImagePullSecret", "DNSConfigForming", "Unhealthy"])
def test_harmless_events_are_no_reasons(cluster: FakeCluster, pods: Pods, tmp_path: Path, harmless: str) -> None:
    left(cluster, pods, tmp_path)
    first = cluster.start_pods(pods.name, phase="Pending")[0]
    cluster.event("Pod", first, harmless, "Unable to retrieve some image pull secrets (registry)")
    assert why(pods) == ""
    cluster.event("Pod", first, "FailedMount", "secret hub not found")
    assert why(pods) == "FailedMount: secret hub not found"


@BOTH
def test_what_is_over_is_no_reason(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    name = left(cluster, pods, tmp_path)
    cluster.event("JobSet", name, "JobCreationFailed", "the webhook did not know the JobSet yet")
    assert "JobCreationFailed" in why(pods), "while nothing was made"
    first = cluster.start_pods(pods.name, phase="Pending")[0]
    cluster.event("Pod", first, "FailedScheduling", "0/1 nodes are available")
    assert why(pods) == "FailedScheduling: 0/1 nodes are available"
    cluster.event("Pod", first, "Scheduled", "assigned to machine-0", type="Normal")
    for event in cluster.names("events"):
        cluster.get("events", event)["lastTimestamp"] = f"2026-01-01T00:00:{event[-2:]}Z"
    assert why(pods) == ""


UNREADY = {"type": "PodsReady", "status": "False", "reason": "WaitForStart", "message": "Not all pods are ready"}


@JOBSET
@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("QuotaReserved", "False", "Pending: couldn't assign flavors"),
        ("QuotaReserved", "False", "Inadmissible: LocalQueue nope doesn't exist"),
        ("Requeued", "False", "PodsReadyTimeout: in 60 s again"),
        ("Evicted", "True", "Preempted: to make room for another"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_kueues_reason_is_what_holds_the_job_back(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, kind: str, status: str, reason: str, last: bool
) -> None:
    name = left(cluster, pods, tmp_path, queue="small")
    cause, _, message = reason.partition(": ")
    held = {"type": kind, "status": status, "reason": cause, "message": message}
    cluster.workload(name, [UNREADY, held] if last else [held, UNREADY])
    assert why(pods) == reason
    cluster.workload(name, [UNREADY])
    assert why(pods) == ""


@JOBSET
def test_kueue_is_asked_in_the_version_that_it_prefers(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    name = left(cluster, pods, tmp_path, queue="small")
    cluster.workload(name, [UNREADY])
    assert why(pods) == ""
    asked = [request for request in cluster.requests if request.group == "kueue.x-k8s.io"]
    assert {request.version for request in asked} == {"v1beta2"}
    assert all("job-uid=" in request.query["labelSelector"] for request in asked), "not those of the whole namespace"


@BOTH
@pytest.mark.parametrize("installed", [True, False])
def test_a_cluster_without_kueue_is_not_asked_for_workloads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: str, installed: bool
) -> None:
    with FakeCluster(installed=None if installed else ["jobs.batch.volcano.sh", "queues", "jobsets"]) as bare:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "bare", bare.url)))
        pods = Pods(bare, str(tmp_path / "store"), scheduler)
        left(bare, pods, tmp_path)
        assert why(pods) == ""
        assert not [request for request in bare.requests if request.plural == "workloads"]


def test_a_job_of_volcano_that_failed_for_good_was_not_started_once_more(
    cluster: FakeCluster, pods: Pods, tmp_path: Path
) -> None:
    def fail() -> None:
        pods.start()
        pods.phase("Failed", 3)  # of maxRetry 3: Volcano counts before it starts again, and gives up at the limit

    cluster.then("POST", CREATE, fail)
    with pytest.raises(LaunchError, match="it failed again after 2 restarts, and retries allows no more"):
        launch(spec(tmp_path, "volcano", retries=2), "train", settings(tmp_path))
    (row,) = list_jobs(JobsListConfig())["jobs"]
    assert row["restarts"] == 2


@JOBSET
def test_restarts_go_on_counting_when_kueue_preempts(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def begin(preempted: int) -> None:
        if preempted:
            attempts.end(pods.store, pods.key, begun[-1], attempts.end_record(begun[-1], stopped, "", 9))
        pods.start()
        begun.append(attempts.begin(pods.store, pods.key, node=0, attempt="0", pod=f"p{preempted}", progress=""))

    def preempt() -> None:
        for pod in cluster.names("pods"):
            cluster.delete("pods", pod)
        cluster.set_status("jobs.batch", f"{pods.name}-node-0", {"active": 0})

    def end() -> None:
        pods.store.write(f"{folder(pods.key)}/result.json", b"{}")
        pods.phase("Completed")

    begun: list[attempts.Attempt] = []
    stopped = ExitStatus(exit_code=TERMINATED, message="asked to stop from outside")
    looks = iter([lambda: begin(0), preempt, lambda: begin(1), preempt, lambda: begin(2), end])
    original = watch.Watch._report
    done: list[str] = []

    def report(self: Any, job: Any, body: Any, state: Any, found: Any, waits: bool) -> None:  # noqa: PLR0913, PLR0917
        original(self, job, body, state, found, waits)
        if waits == (len(done) % 2 == 0) and (do := next(looks, None)):  # one step a change of what is seen
            done.append("")
            do()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watch.Watch, "_report", report)
        result = launch(spec(tmp_path, "jobset", queue="small"), "train", settings(tmp_path))
    assert result["launch"]["restarts"] == 2
    assert "is running, 2 of 2 pods run, started again 2 times" in capsys.readouterr().err


@BOTH
def test_a_job_that_stopped_because_nobody_watched_is_told_as_that(
    cluster: FakeCluster, pods: Pods, tmp_path: Path
) -> None:
    lost = ExitStatus(exit_code=STOPPED, message="the launcher has not renewed its lease: nobody waits", timestamp=5.0)
    follows = ExitStatus(exit_code=STOPPED, message="ends as agent 0-0001 does, which ended first", timestamp=4.0)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.fail(follows, lost)))
    with pytest.raises(LaunchError, match=r"did not fail \(exit code 75\): the launcher has not renewed") as told:
        launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
    assert told.value.exit_code == STOPPED and "no agent wrote down" not in str(told.value)


@BOTH
def test_ranks_that_ended_well_are_not_pending(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def all_but_the_controller() -> None:
        pods.end(0)
        if pods.scheduler == "jobset":
            cluster.set_status("jobs.batch", f"{pods.name}-node-0", {"ready": 0, "active": 2})
        else:
            pods.phase("Pending")

    cluster.then("POST", CREATE, lambda: (pods.start(), all_but_the_controller()))
    cluster.then("GET", LOOK, lambda: pods.succeed(), skip=9)
    launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
    assert "is pending" not in capsys.readouterr().err


@BOTH
def test_pods_are_listed_once_however_often_one_looks(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    def looks(verb: str) -> int:
        return sum(request.plural == "pods" and request.verb == verb for request in cluster.requests)

    cluster.then("POST", CREATE, lambda: pods.start())
    cluster.then("GET", LOOK, lambda: pods.succeed(model="m"), skip=9)
    launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
    assert (looks("list"), looks("watch")) == (1, 1)


@pytest.mark.parametrize(("first", "second"), [("volcano", "jobset"), ("jobset", "volcano")])
def test_one_run_on_two_schedulers_is_refused_while_the_first_is_alive(
    cluster: FakeCluster, tmp_path: Path, first: str, second: str
) -> None:
    pods = Pods(cluster, str(tmp_path / "store"), first)
    name = left(cluster, pods, tmp_path)
    with pytest.raises(ConflictError, match=f"{name} is pending by the scheduler {first} already.*--scheduler {first}"):
        launch(spec(tmp_path, second), "train", settings(tmp_path))
    assert cluster.names(PLURAL[second]) == []
    pods.phase("Failed", 0, "FailedJobs", "a pod failed")
    left(cluster, Pods(cluster, str(tmp_path / "store"), second), tmp_path)


@BOTH
def test_a_webhook_that_is_down_is_named_while_it_is_asked_again(
    cluster: FakeCluster,
    pods: Pods,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    down = 'Internal error occurred: failed calling webhook "mjobset.kb.io": dial tcp 10.0.0.9:443: connection refused'
    monkeypatch.setattr("hqclip.launch.kube.TELL_AT", 1)
    cluster.fail("POST", CREATE, 500, times=3, message=down)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
    assert down in capsys.readouterr().err


def test_an_older_jobset_is_refused_and_what_is_needed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeCluster(lacks=["onJobFailureMessagePatterns"]) as old:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "old", old.url)))
        for dry_run in (True, False):
            with pytest.raises(
                HQClipError, match="JobSet 0.10 or newer is needed, and what is installed here is older"
            ) as told:
                create(connect(), load("jobset"), rendered("jobset"), dry_run=dry_run)
            assert told.value.exit_code == 64
        assert old.names("jobsets") == []


@pytest.mark.parametrize("mode", ["preferred", "required"])
def test_a_topology_that_volcano_would_pass_over_is_refused_if_it_is_required(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, mode: str
) -> None:
    if mode == "required":
        with pytest.raises(ConfigError, match="topology is required, and this cluster has no HyperNodes.*preferred"):
            launch(spec(tmp_path, "volcano", topology="2", topology_mode=mode), "train", settings(tmp_path))
        assert cluster.names("jobs") == []
        cluster.add("hypernodes", {"metadata": {"name": "rack-0"}, "spec": {"tier": 1}})
    left(cluster, pods, tmp_path, topology="2", topology_mode=mode)


def test_who_may_not_look_for_the_topology_is_told_what_volcano_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]
    with FakeCluster(rules=rules) as strict:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "strict", strict.url)))
        left(strict, Pods(strict, str(tmp_path / "store"), "volcano"), tmp_path, topology="2", topology_mode="required")
    assert "Volcano keeps to a required topology only where there are HyperNodes" in capsys.readouterr().err


def test_warnings_of_the_server_are_shown(cluster: FakeCluster, capsys: pytest.CaptureFixture[str]) -> None:
    where = cluster.resource("jobsets")
    cluster.resources[cluster.resources.index(where)] = old = type(where)(**{**vars(where), "older": ("v1alpha2",)})
    cluster.objects[old] = {}
    create(connect(), load("jobset"), rendered("jobset"), dry_run=True)
    assert "Kubernetes warns: jobset.x-k8s.io/v1alpha2 JobSet is deprecated" in capsys.readouterr().err


@BOTH
def test_the_running_time_of_attempts_before_counts(cluster: FakeCluster, pods: Pods, tmp_path: Path) -> None:
    def again() -> None:
        pods.agent(0, ExitStatus(exit_code=TERMINATED), seconds=3000)
        pods.start(attempt=1)
        pods.agent(0, ExitStatus(exit_code=TERMINATED), seconds=900)

    cluster.then("POST", CREATE, again)
    with pytest.raises(UnavailableError, match="has run for 39.. s, which is running_timeout_s"):
        launch(spec(tmp_path, pods.scheduler, running_timeout_s=3600), "train", settings(tmp_path))


def test_a_second_ctrl_c_leaves_no_traceback(cluster: FakeCluster, scheduler: str, tmp_path: Path) -> None:
    with subprocess.Popen(_command(scheduler, tmp_path), cwd=ROOT, stderr=subprocess.PIPE, text=True) as launcher:
        cluster.until(lambda: any(request.verb == "watch" for request in cluster.requests))
        assert launcher.stderr is not None
        launcher.send_signal(signal.SIGINT)
        said = ""
        for line in launcher.stderr:
            said += line
            if launcher.poll() is None:
                launcher.send_signal(signal.SIGINT)
    assert launcher.returncode == 130 and "goes on by itself" in said
    assert "Traceback" not in said


def test_progress_counts_from_the_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("train", 10_000, "steps", done=40) as bar:
        bar.advance(6)
    assert "46 of 10000 steps" in capsys.readouterr().err


def test_sigterm_in_the_midst_of_a_look_into_the_store_ends_the_launcher(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(PATIENCE_S)
        raise AssertionError("it was not interrupted")

    monkeypatch.setattr(watch, "count_begun", stopped)
    cluster.then("POST", CREATE, lambda: pods.start())
    with pytest.raises(TerminatedError, match="and .* with it"):
        launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
    assert cluster.names(PLURAL[pods.scheduler]) == []


def test_sigterm_while_the_handler_is_put_back_is_told_as_that(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_back = run.put_back

    def late(*given: Any, **named: Any) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            put_back(*given, **named)

    monkeypatch.setattr(run, "put_back", late)
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    with pytest.raises(TerminatedError, match="and .* with it"):
        launch(spec(tmp_path, pods.scheduler), "train", settings(tmp_path))
