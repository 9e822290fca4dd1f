"""Pods are listed once and then watched: nothing is missed, nothing stays that is gone, and little is said."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.launch_watch import Relay
from hqclip.errors import AccessError
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.pod_watch import PodWatch
from hqclip.launch.pods import PodRow
from hqclip.launch.registry import load
from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_client import JOBSET, VOLCANO, Client, job, jobset
from tests.launching import write_kubeconfig

PATIENCE_S = 60.0


@pytest.fixture(params=["volcano", "jobset"])
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        yield cluster


@pytest.fixture
def watched(
    cluster: FakeCluster, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PodWatch]:
    """That of two pods which run."""
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
    client = Client(cluster)
    client.create(job(), VOLCANO) if scheduler == "volcano" else client.create(jobset(), JOBSET)
    cluster.start_pods("train")
    watch = PodWatch(connect(), load(scheduler), "train", wait=lambda _: time.sleep(0.01))
    assert [(pod.node, pod.status) for pod in watch.look()] == [(0, "Running"), (1, "Running")]
    cluster.until(lambda: watches(cluster))
    yield watch
    watch.close()


def watches(cluster: FakeCluster) -> int:
    return sum(request.verb == "watch" for request in cluster.requests)


def lists(cluster: FakeCluster) -> int:
    return sum(request.verb == "list" for request in cluster.requests)


def until(watched: PodWatch, holds: Callable[[list[PodRow]], bool]) -> list[PodRow]:
    end = time.monotonic() + PATIENCE_S
    while not holds(pods := watched.look()):
        assert time.monotonic() < end, pods
        time.sleep(0.01)
    return pods


def statuses(pods: list[PodRow]) -> list[str]:
    return [pod.status for pod in pods]


def test_changes_come_by_themselves_and_the_list_once(cluster: FakeCluster, watched: PodWatch) -> None:
    first, second = cluster.names("pods")
    cluster.pod_phase(first, "Pending", "ErrImagePull")
    until(watched, lambda pods: statuses(pods) == ["ErrImagePull", "Running"])
    cluster.delete("pods", second)
    until(watched, lambda pods: statuses(pods) == ["ErrImagePull"])
    cluster.start_pods("train", attempt=1)
    until(watched, lambda pods: statuses(pods) == ["Running", "Running"])
    assert (lists(cluster), watches(cluster)) == (1, 1)


def test_a_thousand_pods_that_start_in_a_minute_take_less_than_20_kilobytes_a_second(
    cluster: FakeCluster, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured on a hundred; on a thousand, with the whole launcher, by `benchmarks/launch_watch.py`."""
    client, number, many = Client(cluster), 100, job() if scheduler == "volcano" else jobset()
    if scheduler == "volcano":
        many["spec"]["tasks"][0]["replicas"] = number
    else:
        many["spec"]["replicatedJobs"][0]["template"]["spec"] |= {"parallelism": number, "completions": number}
    client.create(many, VOLCANO if scheduler == "volcano" else JOBSET)
    names = cluster.start_pods("train", phase="Pending")
    with Relay(cluster.url) as relay:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", relay.url)))
        watch = PodWatch(connect(), load(scheduler), "train", wait=lambda _: time.sleep(0.01))
        assert len(watch.look()) == number
        cluster.until(lambda: watches(cluster))
        listed = relay.count
        for name in names:
            cluster.pod_phase(name, "Pending", "ContainerCreating")
            cluster.pod_phase(name, "Running")
        until(watch, lambda pods: statuses(pods) == ["Running"] * number)
        started = relay.count
        for _ in range(20):
            watch.look()
        assert relay.count == started, "what does not change costs nothing"
        watch.close()
    a_pod = (started - listed) / number
    assert a_pod * 1000 / 60 < 20_000, f"{a_pod:.0f} bytes for each pod that starts"


def test_a_connection_that_breaks_is_taken_up_where_it_was(cluster: FakeCluster, watched: PodWatch) -> None:
    first, second = cluster.names("pods")
    cluster.fail("GET", "watch=true", 503, times=2)
    cut = cluster.drop_watch_after("pods", 1, times=3)
    for phase in ("Pending", "Running") * 3:
        cluster.pod_phase(first, phase, "ContainerCreating")
    cluster.closed = True  # ends the watch that is open
    cluster.bookmark()
    cluster.until(lambda: watches(cluster) > 1)
    cluster.closed = False
    cluster.delete("pods", second)
    cluster.pod_phase(first, "Pending", "CrashLoopBackOff")
    until(watched, lambda pods: statuses(pods) == ["CrashLoopBackOff"])
    assert cut.fired and lists(cluster) == 1
    asked = [int(request.query["resourceVersion"]) for request in cluster.requests if request.verb == "watch"]
    assert asked == sorted(asked) and asked[-1] > asked[0], "each goes on from the last version that was seen"


def test_what_the_server_has_forgotten_is_listed_again_and_no_deletion_is_missed(
    cluster: FakeCluster, watched: PodWatch
) -> None:
    _, second = cluster.names("pods")
    cluster.fail("GET", "watch=true", 503, times=3)
    cluster.closed = True
    cluster.bookmark()
    cluster.until(lambda: watches(cluster) > 1)
    with cluster.changed:
        cluster.delete("pods", second)
        cluster.forget()
        cluster.closed = False
    assert statuses(until(watched, lambda pods: len(pods) == 1)) == ["Running"]
    assert lists(cluster) == 2


def test_a_version_that_is_refused_with_410_is_listed_again(cluster: FakeCluster, watched: PodWatch) -> None:
    cluster.fail("GET", "watch=true", 410)
    cluster.closed = True
    cluster.bookmark()
    cluster.until(lambda: lists(cluster) == 2)
    cluster.closed = False
    cluster.pod_phase(cluster.names("pods")[0], "Pending", "ErrImagePull")
    until(watched, lambda pods: statuses(pods) == ["ErrImagePull", "Running"])


def test_bookmarks_move_the_version_on(cluster: FakeCluster, watched: PodWatch) -> None:
    for _ in range(3):
        cluster.event("Pod", "another", "Failed", "of which this watch is not told")
    cluster.bookmark()
    version = cluster.version
    end = time.monotonic() + PATIENCE_S
    while watched._version != str(version) and time.monotonic() < end:
        time.sleep(0.01)
    assert watched._version == str(version)


def test_pods_that_follow_one_another_under_one_name_are_told_apart(cluster: FakeCluster, watched: PodWatch) -> None:
    before = {pod.name: pod.born for pod in watched.look()}
    first = cluster.names("pods")[0]
    cluster.pod_phase(first, "Pending", "CrashLoopBackOff")
    assert until(watched, lambda pods: statuses(pods)[0] == "CrashLoopBackOff")[0].born == before[first]
    cluster.start_pods("train", attempt=1)
    until(watched, lambda pods: statuses(pods) == ["Running", "Running"] and pods[0].born not in before.values())


def test_pods_of_others_are_not_asked_for(cluster: FakeCluster, watched: PodWatch) -> None:
    cluster.add("pods", {"metadata": {"name": "train-node-7"}, "spec": {"containers": []}, "status": {}})
    cluster.pod_phase(cluster.names("pods")[0], "Pending", "ErrImagePull")
    assert len(until(watched, lambda pods: statuses(pods)[0] == "ErrImagePull")) == 2


def test_a_missing_right_to_watch_is_named(cluster: FakeCluster, scheduler: str, watched: PodWatch) -> None:
    rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]
    cluster.rules = rules
    strict = PodWatch(watched._cluster, load(scheduler), "train")
    end = time.monotonic() + PATIENCE_S
    with pytest.raises(AccessError, match='cannot watch resource "pods"'):
        while time.monotonic() < end:
            strict.look()
            time.sleep(0.01)


def test_rows_are_small(cluster: FakeCluster, watched: PodWatch) -> None:
    where: Cluster = watched._cluster
    rows, _ = where.table("v1", "pods")
    assert all(set(row) >= {"Name", "Status"} and len(str(row)) < 400 for row in rows)
    asked = [request for request in cluster.requests if request.plural == "pods" and request.verb in ("list", "watch")]
    assert all(request.query["includeObject"] == "None" and "as=Table" in request.accept for request in asked)
