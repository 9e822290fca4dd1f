"""What launcher tests share: a fake cluster that a kubeconfig names, and the pods' part played by hand.

A plugin of pytest (see `conftest.py`), so that its fixtures are everywhere.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.launch import attempts
from hqclip.launch.exit_status import ExitStatus
from hqclip.launch.job import GANG, Job, folder
from hqclip.launch.naming import KEY
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store, open_store
from tests.fakes.kubernetes import FakeCluster

SETTINGS = {"dataset": "datasets/0123456789abcdef/dataset.json", "run": "000001-hqclip", "batch_size": 64}
IMAGE = "registry.example/hqclip/train@sha256:0123"
PLURAL = {"volcano": "jobs", "jobset": "jobsets"}
JOBS = r"/jobs(ets)?"  # of either kind
PATIENCE_S = 60.0
CREATE, LOOK = JOBS + r"\?fieldValidation=Strict$", JOBS + r"/hqclip-[\w-]+$"
PODS = r"/pods\?"


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """Nothing points to it yet: that is `at_once`. Nobody reads its logs when it is gone."""
    with FakeCluster() as cluster:
        yield cluster
    nobody_follows()


@pytest.fixture
def at_once(cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kubeconfig names the fake cluster, and nobody waits between two looks."""
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
    monkeypatch.setattr("hqclip.launch.watch.POLL_S", 0.01)
    monkeypatch.setattr("hqclip.launch.kube.Cluster.wait", lambda *_: time.sleep(0.01))


@pytest.fixture(params=PLURAL)
def scheduler(request: pytest.FixtureRequest) -> str:
    """Each one in turn."""
    return str(request.param)


@pytest.fixture
def pods(cluster: FakeCluster, tmp_path: Path, scheduler: str) -> Pods:
    """Those of the job that a test launches."""
    return Pods(cluster, str(tmp_path / "store"), scheduler)


def bare_job(store: str, **given: Any) -> Job:
    """A gang of one node that nothing limits, changed by `given`."""
    made = Job(
        name="j",
        digest="",
        store=store,
        stage="train",
        settings={},
        shape=GANG,
        nodes=1,
        nproc=1,
        progress="",
        restarts_in_place=0,
        no_progress_attempts=0,
        lease_stale_s=0.0,
        rendezvous_timeout_s=60.0,
        shutdown_s=20.0,
        environment_script="",
    )
    return dataclasses.replace(made, **given)


def spec(tmp_path: Path, scheduler: str, **given: Any) -> LaunchSpec:
    fixed = {
        "image": IMAGE,
        "nodes": 2,
        "cpus": "1",
        "volumes": (f"claim:shared:{tmp_path}",),
        "pending_timeout_s": 60.0,
    }
    return LaunchSpec(scheduler=scheduler, **{**fixed, **given})


def settings(tmp_path: Path, **given: Any) -> dict[str, Any]:
    return {"store": str(tmp_path / "store"), **SETTINGS, **given}


def nobody_follows() -> None:
    """Wait until no thread follows a pod."""
    for thread in threading.enumerate():
        if thread.name.startswith("log-"):
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a pod is followed, though nobody watches its job"


def posts(cluster: FakeCluster) -> int:
    return sum(request.method == "POST" for request in cluster.requests)


def write_kubeconfig(path: Path, url: str, namespace: str = "training", token: str = "") -> Path:
    """A kubeconfig for the cluster at `url`, with a token to log in with if one is given."""
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": url}}],
                "users": [{"name": "me", "user": {"token": token} if token else {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me", "namespace": namespace}}],
                "current-context": "fake",
            }
        )
    )
    return path


class Pods:
    """The pods of the one job there is, and its controller: they start, write what agents write, and end."""

    def __init__(self, cluster: FakeCluster, store_uri: str, scheduler: str) -> None:
        self.cluster, self.scheduler = cluster, scheduler
        self.store: Store = open_store(store_uri)

    @property
    def job(self) -> dict[str, Any]:
        """The object of the job."""
        (name,) = self.cluster.names(PLURAL[self.scheduler])
        return self.cluster.get(PLURAL[self.scheduler], name)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.job["metadata"]["name"])

    @property
    def key(self) -> str:
        """Where it talks with the launcher."""
        return str(self.job["metadata"]["annotations"][KEY])

    def start(self, attempt: int = 0) -> list[str]:
        """All pods run."""
        names = self.cluster.start_pods(self.name, attempt=attempt)
        self.phase("Running", attempt)
        return names

    def phase(self, phase: str, restarts: int = 0, reason: str = "", message: str = "") -> None:
        """The controller says so, in its own words."""
        if self.scheduler == "volcano":
            state = {"phase": phase, "reason": reason, "message": message}
            self.cluster.set_status("jobs", self.name, {"state": state, "retryCount": restarts})
            return
        if phase == "Running":
            self.cluster.set_status("jobs.batch", f"{self.name}-node-0", {"ready": 2, "active": 2})
        conditions = []
        if phase in ("Completed", "Failed"):
            conditions = [_condition(phase, reason or "AllJobsCompleted", message)]
        status = {"restarts": restarts, "conditions": conditions}
        self.cluster.set_status("jobsets", self.name, status)

    def succeed(self, **result: Any) -> None:
        """Every agent is done, and rank 0 has left a result."""
        data = json.dumps(result).encode()
        self.store.write(f"{folder(self.key)}/result.json", data, create_only=False)
        for node in range(2):
            self.agent(node, ExitStatus(exit_code=0), seconds=1800)
        self.end(0)
        self.phase("Completed")

    def fail(self, *exit_statuses: ExitStatus, restarts: int = 0) -> None:
        """The agents end like this, node by node, and the controller gives up."""
        for node, exit_status in enumerate(exit_statuses):
            self.agent(node, exit_status)
        self.end(exit_statuses[0].exit_code)
        self.phase("Failed", restarts, "FailedJobs", "a pod failed")

    def agent(self, node: int, exit_status: ExitStatus, seconds: float = 10, progress: str = "") -> None:
        """An agent has begun and ended."""
        begun = attempts.begin(self.store, self.key, node=node, attempt="0", pod=f"pod-{node}", progress="")
        attempts.end(self.store, self.key, begun, attempts.end_record(begun, exit_status, progress, seconds))

    def end(self, exit_code: int) -> None:
        """All pods end."""
        for name in self.cluster.names("pods"):
            self.cluster.end_pod(name, exit_code)


def _condition(kind: str, reason: str, message: str) -> dict[str, str]:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
