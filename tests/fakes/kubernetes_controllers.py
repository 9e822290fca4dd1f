"""Volcano, JobSet, kubelet and scheduler for `FakeCluster`, driven by hand."""

from __future__ import annotations

import copy
import random
from typing import Any

from tests import crd_schemas
from tests.fakes.kubernetes_objects import Objects

JOBSET, POD_INDEX = "jobset.sigs.k8s.io", "batch.kubernetes.io/job-completion-index"
SUFFIX = "bcdfghjklmnpqrstvwxz2456789"  # of the letters that Kubernetes draws names from


class Controllers(Objects):
    """What the controllers of a real cluster would do by themselves, one step a call."""

    def set_status(self, resource: str, name: str, status: dict[str, Any], namespace: str | None = None) -> None:
        """Replace the status; one that the definition does not know is a mistake of the test."""
        with self.changed:
            obj = self.get(resource, name, namespace)
            kind = self.resource(resource)
            if kind.kind in crd_schemas.FILES and kind.group != "batch":
                problems = crd_schemas.check(kind.kind, {**obj, "status": status})
                assert not problems, problems
            obj["status"] = status
            self.touch(obj)

    def start_pods(
        self,
        job: str,
        n: int | None = None,
        *,
        task: str = "",
        attempt: int = 0,
        phase: str = "Running",
        waiting: str = "ContainerCreating",
        namespace: str | None = None,
    ) -> list[str]:
        """Pods of a Volcano job or a JobSet, instead of those of earlier attempts; gives their names.

        `task` is a task or replicated job, the first if empty. Pods of phase Pending wait for the reason `waiting`;
        if that is empty, for a node.
        """
        namespace = namespace or self.namespace
        with self.changed:
            for resource in self.resources:
                owner = self.objects[resource].get((namespace, job))
                if owner is not None and resource.kind == "JobSet":
                    pods = self._jobset_pods(owner, n, task, attempt)
                    break
                if owner is not None and resource.full == "jobs.batch.volcano.sh":
                    pods = self._volcano_pods(owner, n, task, attempt)
                    break
            else:
                raise KeyError(job)
            for pod in pods:
                self.store(self.resource("pods"), pod, namespace)
                self.pod_phase(pod["metadata"]["name"], phase, waiting, namespace=namespace)
            return [pod["metadata"]["name"] for pod in pods]

    def pod_phase(
        self, name: str, phase: str, waiting: str = "", message: str = "", namespace: str | None = None
    ) -> None:
        """Pending or Running; waiting: e.g. ImagePullBackOff; empty for a pod that has no node yet."""
        with self.changed:
            pod = self.get("pods", name, namespace)
            has_node = phase != "Pending" or bool(waiting)
            if has_node:
                pod["spec"].setdefault("nodeName", "machine-0")
            state: dict[str, Any] = {"running": {"startedAt": self._now()}}
            if phase == "Pending":
                state = {"waiting": {"reason": waiting, "message": message}}
            pod["status"] = {"phase": phase, "conditions": [_condition("PodScheduled", has_node, self._now())]}
            if has_node:
                pod["status"] |= {"podIP": "10.0.0.1", "containerStatuses": _statuses(pod, state, phase == "Running")}
            self.touch(pod)

    def end_pod(self, name: str, exit_code: int, message: str = "", reason: str = "", **status: Any) -> None:
        """All its containers end like this; `status`: more of the pod's own, e.g. reason="Evicted"; conditions add up.

        `message` is the termination message of the first container.
        """
        with self.changed:
            pod = self.get("pods", name)
            ended = {"exitCode": exit_code, "reason": reason or ("Error" if exit_code else "Completed")}
            ended |= {"startedAt": self._now(), "finishedAt": self._now(), "containerID": "containerd://0"}
            statuses = _statuses(pod, {"terminated": ended}, ready=False)
            if message:
                statuses[0]["state"] = {"terminated": {**ended, "message": message}}
            conditions = pod["status"].get("conditions", []) + status.pop("conditions", [])
            phase = "Failed" if exit_code else "Succeeded"
            pod["status"] |= {"phase": phase, "containerStatuses": statuses, **status, "conditions": conditions}
            self.touch(pod)

    def event(self, kind: str, name: str, reason: str, message: str, type: str = "Warning") -> None:  # noqa: A002
        """Somebody says something about an object, which need not exist."""
        with self.changed:
            namespace = self.namespace
            about = next((r for r in self.resources if r.kind == kind and (namespace, name) in self.objects[r]), None)
            involved = {"kind": kind, "namespace": namespace, "name": name}
            if about is not None:
                metadata = self.found(about, namespace, name)["metadata"]
                involved |= {"apiVersion": about.api_version, "uid": metadata["uid"]}
            obj = {
                "metadata": {"name": f"{name}.{len(self.names('events')):016x}"},
                "involvedObject": involved,
                "reason": reason,
                "message": message,
                "type": type,
                "count": 1,
                "firstTimestamp": self._now(),
                "lastTimestamp": self._now(),
                "eventTime": None,
                "source": {"component": "tests"},
            }
            self.add("events", obj)

    def podgroup(self, job: str, phase: str, conditions: list[dict[str, Any]] | None = None) -> str:
        """The PodGroup of a Volcano job has come to this; gives its name."""
        with self.changed:
            owner = self.get("jobs", job)
            name = f"{job}-{owner['metadata']['uid']}"
            if name not in self.names("podgroups"):
                spec = {key: owner["spec"][key] for key in ("minAvailable", "queue") if key in owner["spec"]}
                spec["minMember"] = spec.pop("minAvailable", 1)
                metadata = {"name": name, "ownerReferences": [_owner(owner)]}
                self.add("podgroups", {"metadata": metadata, "spec": spec})
            self.set_status("podgroups", name, {"phase": phase, **({"conditions": conditions} if conditions else {})})
            return name

    def workload(self, jobset: str, conditions: list[dict[str, Any]]) -> str:
        """The Workload that Kueue made of a JobSet has these conditions; gives its name."""
        with self.changed:
            owner = self.get("jobsets", jobset)
            uid, labels = owner["metadata"]["uid"], owner["metadata"].get("labels", {})
            name = f"jobset-{jobset}-{uid[:5]}"
            metadata = {"name": name, "labels": {"kueue.x-k8s.io/job-uid": uid}, "ownerReferences": [_owner(owner)]}
            spec = {"queueName": labels.get("kueue.x-k8s.io/queue-name", "")}
            if name not in self.names("workloads"):
                self.add("workloads", {"metadata": metadata, "spec": spec})
            self.set_status("workloads", name, {"conditions": conditions})
            return name

    def _volcano_pods(self, job: dict[str, Any], n: int | None, task: str, attempt: int) -> list[dict[str, Any]]:
        name, spec = job["metadata"]["name"], job["spec"]
        self._drop_pods("volcano.sh/job-name", name, {"volcano.sh/task-spec": task} if task else {})
        found = next(told for told in spec["tasks"] if told["name"] == (task or spec["tasks"][0]["name"]))
        pods = []
        for index in range(found.get("replicas", 1) if n is None else n):
            told = {
                "volcano.sh/job-name": name,
                "volcano.sh/queue-name": spec.get("queue", "default"),
                "volcano.sh/task-spec": found["name"],
                "volcano.sh/task-index": str(index),
            }
            labels = {**told, "volcano.sh/job-namespace": job["metadata"]["namespace"]}
            notes = {**told, "volcano.sh/job-version": "0", "volcano.sh/job-retry-count": str(attempt)}
            notes["volcano.sh/template-uid"] = f"{name}-{found['name']}"
            notes["scheduling.k8s.io/group-name"] = f"{name}-{job['metadata']['uid']}"
            pods.append(_pod(f"{name}-{found['name']}-{index}", found["template"], labels, notes, job))
        return pods

    def _jobset_pods(self, jobset: dict[str, Any], n: int | None, task: str, attempt: int) -> list[dict[str, Any]]:
        name, replicated = jobset["metadata"]["name"], jobset["spec"]["replicatedJobs"]
        self._drop_pods(f"{JOBSET}/jobset-name", name, {f"{JOBSET}/replicatedjob-name": task} if task else {})
        found = next(told for told in replicated if told["name"] == (task or replicated[0]["name"]))
        inner = found["template"]["spec"]
        typed = {**inner, "template": _typed(inner["template"])}
        pods = []
        for replica in range(found.get("replicas", 1)):
            child = f"{name}-{found['name']}-{replica}"
            told = {
                f"{JOBSET}/jobset-name": name,
                f"{JOBSET}/replicatedjob-name": found["name"],
                f"{JOBSET}/replicatedjob-replicas": str(found.get("replicas", 1)),
                f"{JOBSET}/job-index": str(replica),
                f"{JOBSET}/restart-attempt": str(attempt),
            }
            metadata = {"name": child, "labels": told, "annotations": told, "ownerReferences": [_owner(jobset)]}
            if (jobset["metadata"]["namespace"], child) in self.objects[self.resource("jobs.batch")]:
                self.gone(self.resource("jobs.batch"), jobset["metadata"]["namespace"], child)
            job = self.add("jobs.batch", {"metadata": metadata, "spec": typed, "status": {}})
            for index in range(inner.get("parallelism", 1) if n is None else n):
                names = {"batch.kubernetes.io/job-name": child, "job-name": child, POD_INDEX: str(index)}
                pod = f"{child}-{index}-{''.join(random.choices(SUFFIX, k=5))}"
                notes = {**told, POD_INDEX: str(index)}
                pods.append(_pod(pod, inner["template"], {**told, **names}, notes, job))
        return pods

    def _drop_pods(self, label: str, job: str, more: dict[str, str]) -> None:
        pods = self.objects[self.resource("pods")]
        for key, pod in list(pods.items()):
            labels = pod["metadata"].get("labels", {})
            if labels.get(label) == job and labels | more == labels:
                self.gone(self.resource("pods"), *key)

    def _now(self) -> str:
        return f"{self.clock():%Y-%m-%dT%H:%M:%SZ}"


def _pod(
    name: str, template: dict[str, Any], labels: dict[str, str], notes: dict[str, str], owner: dict[str, Any]
) -> dict[str, Any]:
    told = template.get("metadata", {})
    metadata = {
        "name": name,
        "labels": {**told.get("labels", {}), **labels},
        "annotations": {**told.get("annotations", {}), **notes},
        "ownerReferences": [_owner(owner)],
    }
    return {"metadata": metadata, "spec": _typed(template)["spec"]}


def _typed(template: dict[str, Any]) -> dict[str, Any]:
    """The template as pods and jobs have it: there quantities are text."""
    template = copy.deepcopy(template)
    for container in template["spec"]["containers"] + template["spec"].get("initContainers", []):
        for part in ("limits", "requests"):
            amounts = container.get("resources", {}).get(part, {})
            amounts |= {name: str(amount) for name, amount in amounts.items()}
    return template


def _owner(obj: dict[str, Any]) -> dict[str, Any]:
    told = {"apiVersion": obj["apiVersion"], "kind": obj["kind"], "controller": True, "blockOwnerDeletion": True}
    return told | {"name": obj["metadata"]["name"], "uid": obj["metadata"]["uid"]}


def _statuses(pod: dict[str, Any], state: dict[str, Any], ready: bool) -> list[dict[str, Any]]:
    return [
        {"name": told["name"], "image": told["image"], "state": state, "ready": ready, "restartCount": 0, "imageID": ""}
        for told in pod["spec"]["containers"]
    ]


def _condition(kind: str, holds: bool, time: str) -> dict[str, Any]:
    told = {} if holds else {"reason": "Unschedulable", "message": "0/1 nodes are available"}
    return {"type": kind, "status": str(holds), "lastTransitionTime": time, **told}
