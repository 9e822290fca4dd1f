"""A Volcano Job, batch.volcano.sh/v1alpha1: numbered pods of one task, in a queue, all at once if they are a gang."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hqclip.launch.exit_status import STOPPED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod_template import Place, deadline_s, job_annotations, job_labels, pod_template
from hqclip.launch.schedulers.protocol import FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, Scheduler, State, unmet
from hqclip.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from hqclip.launch.kube import Cluster

TASK = "node"
PODGROUPS = ("scheduling.volcano.sh/v1beta1", "podgroups")
# the names of thousands of hosts would be more than an environment variable holds; older versions know no such flag
# and stop reading at it, so it is the last
_SERVICE = ("--publish-not-ready-addresses", "--inject-hosts-env=false")
_PHASES = {
    "Pending": PENDING,
    "Inqueue": PENDING,
    "Running": RUNNING,
    "Restarting": RESTARTING,
    "Completing": RUNNING,
    "Completed": SUCCEEDED,
    "Terminating": RUNNING,
    "Terminated": FAILED,
    "Aborting": RUNNING,
    "Aborted": FAILED,
    "Failed": FAILED,
}


class Volcano(Scheduler):
    """What is particular to it."""

    name = "volcano"
    kind = ("batch.volcano.sh/v1alpha1", "jobs")
    pod_label = "volcano.sh/job-name"
    node_annotation = "volcano.sh/task-index"
    install = "Volcano (volcano.sh/en/docs/installation), or give --scheduler jobset"

    def problems(self, spec: LaunchSpec) -> list[str]:
        """Its network topology has tiers."""
        if spec.topology and not re.fullmatch("[0-9]+", spec.topology):
            return [f"topology is {spec.topology!r}; for volcano give the number of a tier"]
        return []

    def render(self, spec: LaunchSpec, job: Job) -> Json:
        """Ranks meet at pod 0, whose name is known beforehand."""
        gang = job.shape == GANG
        place = Place(
            f"metadata.annotations['{self.node_annotation}']",
            "metadata.annotations['volcano.sh/job-retry-count']",
            f"{self.first_node(job.name)}.{job.name}:{spec.rendezvous_port}" if gang else "",
            deadline_s(spec),
        )
        least = job.nodes if gang else 1
        body: Json = {
            "apiVersion": self.kind[0],
            "kind": "Job",
            "metadata": {
                "name": job.name,
                "labels": job_labels(spec, job),
                "annotations": {**job_annotations(spec, job), DIGEST: job.digest, KEY: job.key},
            },
            "spec": {
                "schedulerName": "volcano",
                "queue": spec.queue or "default",
                "minAvailable": least,
                "maxRetry": _max_retry(spec, job),
                "ttlSecondsAfterFinished": spec.ttl_s,
                "plugins": {"env": [], "svc": [*_SERVICE]} if gang else {"env": []},
                "policies": _policies(gang),
                "tasks": [
                    {
                        "name": TASK,
                        "replicas": job.nodes,
                        "minAvailable": least,
                        "template": pod_template(spec, job, place),
                    }
                ],
            },
        }
        if spec.priority_class:
            body["spec"]["priorityClassName"] = spec.priority_class
        if spec.topology:
            mode = "hard" if spec.topology_mode == "required" else "soft"
            body["spec"]["networkTopology"] = {"mode": mode, "highestTierAllowed": int(spec.topology)}
        return apply_patches("job", body, read_patches(spec.patches)[0])

    def state(self, cluster: Cluster, body: Json) -> State:  # noqa: ARG002 - all of it is in the object
        """A phase that we do not know counts as running: the controller goes on, and so do we."""
        status = body.get("status", {})
        state = status.get("state", {})
        reason = ": ".join(filter(None, (state.get("reason", ""), state.get("message", ""))))
        phase, restarts = _PHASES.get(state.get("phase", "Pending"), RUNNING), int(status.get("retryCount", 0))
        return State(RESTARTING if phase == PENDING and restarts else phase, restarts, reason)

    def queue_reasons(self, cluster: Cluster, body: Json) -> Iterator[str]:
        """By the conditions of its pod group: what is true of them is in the way."""
        group = cluster.get(*PODGROUPS, f"{body['metadata']['name']}-{body['metadata']['uid']}") or {}
        return unmet(group, "True")

    def first_node(self, job: str) -> str:
        """The pod itself."""
        return f"{job}-{TASK}-0"


def _max_retry(spec: LaunchSpec, job: Job) -> int:
    """Volcano counts a restart when it begins and gives up at `maxRetry`: N restarts want N + 1, and 0 would mean 3.

    One budget for the whole job: that of replicas, which fail one by one, is for all of them together.
    """
    return spec.retries * (1 if job.shape == GANG else job.nodes) + 1


def _policies(gang: bool) -> list[Json]:
    """What follows on what; the first that fits counts. Without them one failed pod leaves the others waiting."""
    again = "RestartJob" if gang else "RestartPod"
    return [
        *({"exitCode": code, "action": "TerminateJob"} for code in PERMANENT),
        {"exitCode": STOPPED, "action": "AbortJob"},
        {"event": "PodEvicted", "action": again},
        {"event": "PodFailed", "action": again},
        {"event": "TaskCompleted", "action": "CompleteJob"},
    ]
