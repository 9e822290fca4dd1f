"""A JobSet, jobset.x-k8s.io/v1alpha2: one indexed Job of numbered pods; with Kueue where there is a queue."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hqclip.launch.exit_status import STOPPED, TERMINATED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod_template import CONTAINER, Place, deadline_s, job_annotations, job_labels, pod_template
from hqclip.launch.schedulers.protocol import FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, Scheduler, State, told
from hqclip.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from hqclip.launch.kube import Cluster

REPLICATED = "node"
INDEXED_JOB = ("batch/v1", "jobs")
KUEUE = "kueue.x-k8s.io"  # its group: the newest version that is served is asked for
# what keeps a workload from its machines, in this order. Its pods not being ready is what all of them say.
_HOLDS = (("QuotaReserved", "False"), ("Admitted", "False"), ("Requeued", "False"), ("Evicted", "True"))


class JobSet(Scheduler):
    """What is particular to it."""

    name = "jobset"
    kind = ("jobset.x-k8s.io/v1alpha2", "jobsets")
    pod_label = "jobset.sigs.k8s.io/jobset-name"
    node_label = "batch.kubernetes.io/job-completion-index"
    install = "JobSet (jobset.sigs.k8s.io/docs/installation), or give --scheduler volcano"
    newer = {"onJobFailureMessagePatterns": "JobSet 0.10"}  # older ones would start again what failed for good
    keeps_names = False

    def problems(self, spec: LaunchSpec) -> list[str]:  # noqa: ARG002 - of all there is
        """None: any label of nodes may be a topology of Kueue's."""
        return []

    def render(self, spec: LaunchSpec, job: Job) -> Json:
        """Ranks meet at pod 0, whose host has a name known beforehand."""
        gang = job.shape == GANG
        place = Place(
            f"metadata.annotations['{self.node_label}']",
            "metadata.annotations['jobset.sigs.k8s.io/restart-attempt']",
            f"{_indexed_job_name(job.name)}-0.{job.name}:{spec.rendezvous_port}" if gang else "",
        )
        template = pod_template(spec, job, place)
        if spec.topology:
            template["metadata"]["annotations"][f"kueue.x-k8s.io/podset-{spec.topology_mode}-topology"] = spec.topology
        queue = {"kueue.x-k8s.io/queue-name": spec.queue} if spec.queue else {}
        body: Json = {
            "apiVersion": self.kind[0],
            "kind": "JobSet",
            "metadata": {
                "name": job.name,
                "labels": {**job_labels(spec, job), **queue},
                "annotations": {**job_annotations(spec, job), DIGEST: job.digest, KEY: job.key},
            },
            "spec": {
                "ttlSecondsAfterFinished": spec.ttl_s,
                "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
                "failurePolicy": _failure_policy(spec, gang),
                "replicatedJobs": [
                    {"name": REPLICATED, "replicas": 1, "template": {"spec": _indexed_job(spec, job, template)}}
                ],
            },
        }
        if spec.queue:
            body["spec"]["suspend"] = True  # Kueue lets it go when there is room
        return apply_patches("job", body, read_patches(spec.patches)[0])

    def check(self, cluster: Cluster, spec: LaunchSpec) -> None:
        """Kueue says so itself."""

    def state(self, cluster: Cluster, body: Json) -> State:
        """From the conditions Completed, Failed and Suspended, and the pods that its one Job counts as ready."""
        status = body.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", []) if c.get("status") == "True"}
        restarts = int(status.get("restarts", 0))
        for kind, phase in (("Completed", SUCCEEDED), ("Failed", FAILED)):
            if kind in conditions:
                said = (conditions[kind].get("reason", ""), conditions[kind].get("message", ""))
                return State(phase, restarts, ": ".join(filter(None, said)))
        indexed_job = cluster.get(*INDEXED_JOB, _indexed_job_name(body["metadata"]["name"])) or {}
        pods = indexed_job.get("status", {})
        if pods.get("ready", 0) or pods.get("succeeded", 0):
            return State(RUNNING, restarts)
        return State(RESTARTING if restarts else PENDING, restarts, conditions.get("Suspended", {}).get("message", ""))

    def queue_reasons(self, cluster: Cluster, body: Json) -> Iterator[str]:
        """By the conditions of Kueue's workload of the job, where it asked for a queue."""
        served = cluster.newest(KUEUE) if "suspend" in body["spec"] else ""
        if not served:
            return
        uid = body["metadata"]["uid"]
        for workload in cluster.list(served, "workloads", labelSelector=f"{KUEUE}/job-uid={uid}"):
            status = workload.get("status", {})
            conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
            for kind, holds in _HOLDS:
                condition = conditions.get(kind, {})
                if condition.get("status") == holds and condition.get("message"):
                    yield told(condition)
            for check in status.get("admissionChecks", []):
                if check.get("state") != "Ready" and check.get("message"):
                    yield f"{check['name']} is {check.get('state')}: {check['message']}"

    def nodes(self, body: Json) -> int:
        """Those of its one Job."""
        return int(body["spec"]["replicatedJobs"][0]["template"]["spec"]["parallelism"])

    def makers(self, body: Json) -> list[str]:
        """The JobSet, and the Job that it makes, of which there is one."""
        return [body["metadata"]["name"], _indexed_job_name(body["metadata"]["name"])]

    def node_of(self, job: str, pod: str) -> int | None:
        """The index before the random end."""
        found = re.fullmatch(rf"{re.escape(_indexed_job_name(job))}-(\d+)-\w+", pod)
        return int(found[1]) if found else None


def _indexed_job_name(job: str) -> str:
    return f"{job}-{REPLICATED}-0"


def _indexed_job(spec: LaunchSpec, job: Job, template: Json) -> Json:
    """All pods of the job. One failed pod of a gang fails it at once; a replica is tried again by itself."""
    gang = job.shape == GANG
    indexed: Json = {
        "completionMode": "Indexed",
        "parallelism": job.nodes,
        "completions": job.nodes,
        "podFailurePolicy": {"rules": _pod_rules(gang)},
        "template": template,
    }
    if deadline_s(spec):  # here, and not in the pods: so the Job says that time was up
        indexed["activeDeadlineSeconds"] = deadline_s(spec)
    if gang:
        return {**indexed, "backoffLimit": 0}
    return {**indexed, "backoffLimitPerIndex": spec.retries}


def _pod_rules(gang: bool) -> list[Json]:
    """What ends the Job at once. Where one pod of a gang is preempted all stop, but only that one has the condition."""
    codes = [*PERMANENT, STOPPED, *([TERMINATED] if gang else [])]
    by_code = {
        "action": "FailJob",
        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)},
    }
    disrupted = {
        "action": "FailJob" if gang else "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    return [by_code, disrupted]


def _failure_policy(spec: LaunchSpec, gang: bool) -> Json:
    """Preemptions start the gang again without counting; what fails for good ends it; the rest counts.

    Both of the first two reach the JobSet as a PodFailurePolicy failure: the message of the Job controller tells
    them apart ("... failed with exit code 64 matching FailJob rule ...", "... has condition DisruptionTarget ...").
    """
    policy_failure = {"onJobFailureReasons": ["PodFailurePolicy"]}
    for_good = {
        "name": "forgood",
        "action": "FailJobSet",
        **policy_failure,
        "onJobFailureMessagePatterns": [".*failed with exit code.*"],
    }
    too_late = {"name": "toolate", "action": "FailJobSet", "onJobFailureReasons": ["DeadlineExceeded"]}
    if not gang:
        return {"maxRestarts": 0, "rules": [for_good, too_late]}
    preempted = {
        "name": "preempted",
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        **policy_failure,
        "onJobFailureMessagePatterns": [
            ".*has condition DisruptionTarget.*",
            f".*failed with exit code {TERMINATED} .*",
        ],
    }
    return {"maxRestarts": spec.retries, "rules": [preempted, for_good, too_late]}
