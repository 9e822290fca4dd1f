"""Jobs that launchers have left on a fake cluster, for tests of those who find them there."""

from __future__ import annotations

import json
from typing import Any

from hqclip.launch.job import folder, publish
from hqclip.launch.lease import LeaseKeeper
from hqclip.launch.naming import KEY
from hqclip.launch.resolve import Order, make_order
from hqclip.launch.spec import LaunchSpec
from hqclip.store import open_store
from tests.fakes.kubernetes import FakeCluster
from tests.launching import IMAGE, PLURAL, SETTINGS


class Jobs:
    """Jobs of one scheduler, and their controller driven by hand."""

    def __init__(self, cluster: FakeCluster, scheduler: str, uri: str) -> None:
        self.cluster, self.scheduler, self.uri = cluster, scheduler, uri
        self.plural = PLURAL[scheduler]

    @property
    def names(self) -> list[str]:
        return self.cluster.names(self.plural)

    def add(self, run: str, *, workflow: str = "", uid: str = "", phase: str = "running", **given: Any) -> str:
        """A job for this run that nobody has watched yet; its name."""
        spec = LaunchSpec(
            scheduler=self.scheduler, image=IMAGE, nodes=2, cpus="1", volumes=(f"claim:shared:{self.uri}",), **given
        )
        order = make_order(spec, "train", {"store": self.uri, **SETTINGS, "run": run})
        body = Order(spec, publish(open_store(self.uri), order.job)).body
        if workflow:
            owner = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": workflow}
            body["metadata"]["ownerReferences"] = [{**owner, "uid": uid}]
        self.cluster.add(self.plural, body)
        self.phase(order.job.name, phase)
        return order.job.name

    def phase(self, name: str, phase: str) -> None:
        """Its controller says that it is pending, running (after a restart), completed or failed."""
        restarts = int(phase == "running")
        if restarts:
            self.cluster.start_pods(name, attempt=1)
        if self.scheduler == "volcano":
            told = {"reason": "AllJobs", "message": "it is over"} if phase in ("completed", "failed") else {}
            state = {"phase": phase.capitalize(), **told}
            self.cluster.set_status("jobs", name, {"state": state, "retryCount": restarts})
            return
        if restarts:
            self.cluster.set_status("jobs.batch", f"{name}-node-0", {"ready": 2, "active": 2})
        ended = {"type": phase.capitalize(), "status": "True", "reason": "AllJobs", "message": "it is over"}
        over = [{**ended, "lastTransitionTime": "2026-01-01T00:00:00Z"}] if phase in ("completed", "failed") else []
        self.cluster.set_status("jobsets", name, {"restarts": restarts, "conditions": over})

    def watched(self, name: str, seconds_ago: float = 0.0) -> None:
        """A launcher renewed its lease then."""
        store, where = open_store(self.uri), f"{folder(self.key(name))}/lease.json"
        LeaseKeeper(store, self.key(name), interval_s=10).renew()
        lease = json.loads(store.read(where))
        lease["time"] -= seconds_ago
        store.write(where, json.dumps(lease).encode(), create_only=False)

    def key(self, name: str) -> str:
        return str(self.cluster.get(self.plural, name)["metadata"]["annotations"][KEY])

    def workflow(self, name: str, phase: str = "Running") -> str:
        """A run of Kubeflow; its uid."""
        return str(
            self.cluster.add("workflows", {"metadata": {"name": name}, "status": {"phase": phase}})["metadata"]["uid"]
        )
