"""Pods, logs and what keeps jobs waiting, as the fake cluster shows them to the real client."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import urllib3

from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_client import JOBSET, Client, job, jobset, refusal


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: FakeCluster) -> Client:
    return Client(cluster)


def test_pods_of_a_volcano_job_are_named_and_marked_as_volcano_does(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    assert cluster.start_pods("train", attempt=2) == ["train-node-0", "train-node-1"]
    pod = client.core.read_namespaced_pod("train-node-1", "training").metadata
    assert pod.labels["volcano.sh/job-name"] == "train" and pod.labels["volcano.sh/task-spec"] == "node"
    assert pod.labels["team"] == "vision"
    assert pod.annotations["volcano.sh/job-retry-count"] == "2" and pod.annotations["volcano.sh/task-index"] == "1"
    cluster.start_pods("train", 1, attempt=3)
    again = client.core.list_namespaced_pod("training", label_selector="volcano.sh/job-name=train").items
    assert [one.metadata.name for one in again] == ["train-node-0"]


def test_pods_of_a_jobset_are_named_and_marked_as_jobset_does(cluster: FakeCluster, client: Client) -> None:
    client.create(jobset(), JOBSET)
    names = cluster.start_pods("train", attempt=1)
    assert [name.rpartition("-")[0] for name in names] == ["train-node-0-0", "train-node-0-1"]
    selector = "jobset.sigs.k8s.io/jobset-name=train,batch.kubernetes.io/job-completion-index=1"
    (pod,) = client.core.list_namespaced_pod("training", label_selector=selector).items
    labels = pod.metadata.labels
    assert labels["jobset.sigs.k8s.io/replicatedjob-name"] == "node"
    assert labels["jobset.sigs.k8s.io/job-index"] == "0" and labels["jobset.sigs.k8s.io/restart-attempt"] == "1"
    (child,) = client.batch.list_namespaced_job("training").items
    assert child.metadata.name == pod.metadata.owner_references[0].name == "train-node-0"
    cluster.delete("jobsets", "train")
    assert cluster.names("pods") == cluster.names("jobs.batch") == []


def test_a_pod_waits_runs_and_ends(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    (name,) = cluster.start_pods("train", 1, phase="Pending", waiting="")
    assert client.core.read_namespaced_pod(name, "training").status.conditions[0].reason == "Unschedulable"
    cluster.pod_phase(name, "Pending", "ImagePullBackOff", "no such image")
    waits = client.core.read_namespaced_pod(name, "training").status.container_statuses[0].state.waiting
    assert (waits.reason, waits.message) == ("ImagePullBackOff", "no such image")
    cluster.pod_phase(name, "Running")
    disruption = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}
    cluster.end_pod(name, 143, message="stopped", conditions=[disruption])
    status = client.core.read_namespaced_pod(name, "training").status
    ended = status.container_statuses[0].state.terminated
    assert (status.phase, ended.exit_code, ended.reason, ended.message) == ("Failed", 143, "Error", "stopped")
    assert status.conditions[-1].type == "DisruptionTarget"


def test_a_podgroup_says_why_a_job_waits(cluster: FakeCluster, client: Client) -> None:
    client.create(job())
    condition = {"type": "Unscheduled", "status": "True", "reason": "NotEnoughResources", "message": "2 GPUs short"}
    name = cluster.podgroup("train", "Pending", [condition])
    group = client.get(name, ("scheduling.volcano.sh", "v1beta1", "training", "podgroups"))
    assert group["status"]["conditions"][0]["message"] == "2 GPUs short"
    assert group["metadata"]["ownerReferences"][0]["name"] == "train"
    client.create(jobset("tune"), JOBSET)
    waiting = {"type": "QuotaReserved", "status": "False", "reason": "Pending", "message": "no quota"}
    name = cluster.workload("tune", [waiting])
    workload = client.get(name, ("kueue.x-k8s.io", "v1beta1", "training", "workloads"))
    assert workload["status"]["conditions"] == [waiting]
    queue = client.custom.get_cluster_custom_object("scheduling.volcano.sh", "v1beta1", "queues", "default")
    assert queue["status"]["state"] == "Open"


@pytest.fixture
def pod(cluster: FakeCluster, client: Client) -> str:
    """A running pod with three lines of log, a second apart."""
    client.create(job())
    (name,) = cluster.start_pods("train", 1)
    for second in range(3):
        cluster.log(name, f"line {second}", at=f"2026-01-01T00:00:0{second}Z")
    return name


def test_logs_are_cut_by_time_and_number(cluster: FakeCluster, client: Client, pod: str) -> None:
    cluster.clock = lambda: datetime(2026, 1, 1, 0, 0, 3, tzinfo=UTC)
    assert client.log(pod).data == b"line 0\nline 1\nline 2\n"
    assert client.log(pod, sinceTime="2026-01-01T00:00:01Z").data == b"line 1\nline 2\n"
    assert client.log(pod, sinceSeconds="1").data == b"line 2\n"
    assert client.log(pod, tailLines="1", timestamps="true").data == b"2026-01-01T00:00:02.000000000Z line 2\n"
    typed = client.core.read_namespaced_pod_log(pod, "training", timestamps=True, tail_lines=1)
    assert typed == "2026-01-01T00:00:02.000000000Z line 2\n"


def test_a_followed_log_ends_with_its_pod(cluster: FakeCluster, client: Client, pod: str) -> None:
    lines = client.log(pod, follow="True")
    got = b""
    while not got.endswith(b"line 2\n"):
        got += lines.read1()

    def finish() -> None:
        cluster.log(pod, "last")
        cluster.end_pod(pod, 0)

    threading.Thread(target=finish).start()
    assert lines.read() == b"last\n"


def test_a_followed_log_breaks_when_told_and_goes_on_when_asked_again(
    cluster: FakeCluster, client: Client, pod: str
) -> None:
    cluster.drop_log_after(pod, 2)
    got = []
    with pytest.raises(urllib3.exceptions.ProtocolError):
        got.extend(client.log(pod, follow="true").stream())
    assert b"".join(got) == b"line 0\nline 1\n"
    cluster.end_pod(pod, 0)
    assert client.log(pod, follow="true", sinceTime="2026-01-01T00:00:01Z").data == b"line 1\nline 2\n"
    cluster.assert_all_faults_fired()


def test_a_log_that_cannot_be_read_says_why(cluster: FakeCluster, client: Client, pod: str) -> None:
    assert "not valid for pod" in client.log(pod, container="other").json()["message"]
    assert "previous terminated container" in client.log(pod, previous="true").json()["message"]
    cluster.log(pod, "before", previous=True)
    assert client.log(pod, previous="true").data == b"before\n"
    cluster.pod_phase(pod, "Pending", "ContainerCreating")
    code, told = refusal(lambda: client.core.read_namespaced_pod_log(pod, "training"))
    assert code == 400
    assert told["message"] == f'container "main" in pod "{pod}" is waiting to start: ContainerCreating'
    assert client.log("nobody").status == 404
