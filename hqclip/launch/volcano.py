"""A spec and a job in, a Volcano Job out: batch.volcano.sh/v1alpha1, as a plain object."""

from __future__ import annotations

from hqclip.launch.exit_status import STOPPED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod import Place, job_annotations, job_labels, pod_template
from hqclip.launch.spec import LaunchSpec

API, PLURAL = "batch.volcano.sh/v1alpha1", "jobs"
TASK = "node"
# the names of thousands of hosts would be more than an environment variable holds; older versions know no such flag
# and stop reading at it, so it is the last
_SERVICE = ("--publish-not-ready-addresses", "--inject-hosts-env=false")


def render(spec: LaunchSpec, job: Job) -> Json:
    """The object that is created. Pods of one task, numbered; ranks meet at pod 0, whose name is known beforehand."""
    gang = job.shape == GANG
    rendezvous = f"{job.name}-{TASK}-0.{job.name}:{spec.rendezvous_port}" if gang else ""
    place = Place(
        "metadata.annotations['volcano.sh/task-index']",
        "metadata.annotations['volcano.sh/job-retry-count']",
        rendezvous,
    )
    least = job.nodes if gang else 1
    body: Json = {
        "apiVersion": API,
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
            "maxRetry": max_retry(spec, job),
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


def max_retry(spec: LaunchSpec, job: Job) -> int:
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
