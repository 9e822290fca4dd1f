"""A Volcano Job, batch.volcano.sh/v1alpha1: numbered pods of one task, in a queue, all at once if they are a gang."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from hqclip import log
from hqclip.errors import AccessError, ConfigError
from hqclip.launch.exit_status import STOPPED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod_template import Place, deadline_s, job_annotations, job_labels, pod_template
from hqclip.launch.schedulers.protocol import FAILED, PENDING, RESTARTING, RUNNING, SUCCEEDED, Scheduler, State, told
from hqclip.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from hqclip.launch.kube import Cluster

TASK = "node"
HYPERNODES = ("topology.volcano.sh/v1alpha1", "hypernodes")
PODGROUPS = ("scheduling.volcano.sh/v1beta1", "podgroups")
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
    node_label = "volcano.sh/task-index"
    install = "Volcano (volcano.sh/en/docs/installation), or give --scheduler jobset"
    newer: dict[str, str] = {}
    keeps_names = True

    def problems(self, spec: LaunchSpec) -> list[str]:
        """Its network topology has tiers."""
        if spec.topology and not re.fullmatch("[0-9]+", spec.topology):
            return [f"topology is {spec.topology!r}; for volcano give the number of a tier"]
        return []

    def render(self, spec: LaunchSpec, job: Job) -> Json:
        """Ranks meet at pod 0, which writes its address into the store.

        Volcano has a plugin, svc, for names of pods; it gives the names of all to each in one variable of the
        environment, which of 1,600 nodes is more than Linux takes.
        """
        gang = job.shape == GANG
        place = Place(
            f"metadata.annotations['{self.node_label}']",
            "metadata.annotations['volcano.sh/job-retry-count']",
            f":{spec.rendezvous_port}" if gang else "",
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
                "plugins": {"env": []},
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

    def check(self, cluster: Cluster, spec: LaunchSpec) -> None:
        """Where nobody has described the network it runs a gang anywhere, required or not."""
        if not spec.topology or spec.topology_mode != "required":
            return
        try:
            described = cluster.everywhere(*HYPERNODES)
        except AccessError:
            log.warning("launch", "Volcano keeps to a required topology only where there are HyperNodes")
            return
        if not described:
            raise ConfigError(
                "topology is required, and this cluster has no HyperNodes, without which Volcano runs pods anywhere: "
                "describe the network with them, or give --topology-mode preferred"
            )

    def state(self, cluster: Cluster, body: Json) -> State:  # noqa: ARG002 - all of it is in the object
        """A phase that we do not know counts as running: the controller goes on, and so do we."""
        status = body.get("status", {})
        state = status.get("state", {})
        reason = ": ".join(filter(None, (state.get("reason", ""), state.get("message", ""))))
        phase, restarts = _PHASES.get(state.get("phase", "Pending"), RUNNING), int(status.get("retryCount", 0))
        if phase == FAILED and restarts >= int(body.get("spec", {}).get("maxRetry", 0)) > 0:
            restarts -= 1  # the last was counted, and not made: see `_max_retry`
            reason = reason or f"it failed again after {restarts} restarts, and retries allows no more"
        return State(RESTARTING if phase == PENDING and restarts else phase, restarts, reason)

    def queue_reasons(self, cluster: Cluster, body: Json) -> Iterator[str]:
        """By the conditions of its pod group, of which what is true is in the way; in the queue it has none yet."""
        group = cluster.get(*PODGROUPS, _pod_group(body)) or {}
        for condition in reversed(group.get("status", {}).get("conditions", [])):
            if condition.get("status") == "True" and condition["type"] != "Scheduled" and condition.get("message"):
                yield told(condition)

    def nodes(self, body: Json) -> int:
        """Those of its one task."""
        return int(body["spec"]["tasks"][0]["replicas"])

    def makers(self, body: Json) -> list[str]:
        """The job makes the pods once its pod group is let in."""
        return [body["metadata"]["name"], _pod_group(body)]

    def node_of(self, job: str, pod: str) -> int | None:
        """The index at the end."""
        found = re.fullmatch(rf"{re.escape(job)}-{TASK}-(\d+)", pod)
        return int(found[1]) if found else None


def _pod_group(body: Json) -> str:
    return f"{body['metadata']['name']}-{body['metadata']['uid']}"


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
