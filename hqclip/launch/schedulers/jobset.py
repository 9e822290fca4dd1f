"""A JobSet, jobset.x-k8s.io/v1alpha2: one indexed Job of numbered pods; with Kueue where there is a queue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hqclip.launch.exit_status import STOPPED, TERMINATED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod_template import CONTAINER, Place, deadline_s, job_annotations, job_labels, pod_template
from hqclip.launch.schedulers.protocol import FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, Scheduler, State, unmet
from hqclip.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from hqclip.launch.kube import Cluster

REPLICATED = "node"
INDEXED_JOB = ("batch/v1", "jobs")
KUEUE = ("kueue.x-k8s.io/v1beta2", "kueue.x-k8s.io/v1beta1")  # newest first


class JobSet(Scheduler):
    """What is particular to it."""

    name = "jobset"
    kind = ("jobset.x-k8s.io/v1alpha2", "jobsets")
    pod_label = "jobset.sigs.k8s.io/jobset-name"
    node_annotation = "batch.kubernetes.io/job-completion-index"
    install = "JobSet (jobset.sigs.k8s.io/docs/installation), or give --scheduler volcano"

    def problems(self, spec: LaunchSpec) -> list[str]:  # noqa: ARG002 - of all there is
        """None: any label of nodes may be a topology of Kueue's."""
        return []

    def render(self, spec: LaunchSpec, job: Job) -> Json:
        """Ranks meet at pod 0, whose host has a name known beforehand."""
        gang = job.shape == GANG
        place = Place(
            f"metadata.annotations['{self.node_annotation}']",
            "metadata.annotations['jobset.sigs.k8s.io/restart-attempt']",
            f"{self.first_node(job.name)}-0.{job.name}:{spec.rendezvous_port}" if gang else "",
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

    def state(self, cluster: Cluster, body: Json) -> State:
        """From the conditions Completed, Failed and Suspended, and the pods that its one Job counts as ready."""
        status = body.get("status", {})
        conditions = {c["type"]: c for c in status.get("conditions", []) if c.get("status") == "True"}
        restarts = int(status.get("restarts", 0))
        for kind, phase in (("Completed", SUCCEEDED), ("Failed", FAILED)):
            if kind in conditions:
                said = (conditions[kind].get("reason", ""), conditions[kind].get("message", ""))
                return State(phase, restarts, ": ".join(filter(None, said)))
        indexed_job = cluster.get(*INDEXED_JOB, self.first_node(body["metadata"]["name"])) or {}
        pods = indexed_job.get("status", {})
        if pods.get("ready", 0) or pods.get("succeeded", 0):
            return State(RUNNING, restarts)
        return State(RESTARTING if restarts else PENDING, restarts, conditions.get("Suspended", {}).get("message", ""))

    def queue_reasons(self, cluster: Cluster, body: Json) -> Iterator[str]:
        """By the conditions of Kueue's workloads of the job, where it asked for a queue: what is not true yet."""
        served = (cluster.list(api, "workloads") for api in KUEUE if body["spec"].get("suspend"))
        for workload in next(filter(None, served), []):
            owners = workload["metadata"].get("ownerReferences", [])
            if any(owner.get("uid") == body["metadata"]["uid"] for owner in owners):
                yield from unmet(workload, "False")

    def first_node(self, job: str) -> str:
        """The Job that makes the pods, of which there is one."""
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
