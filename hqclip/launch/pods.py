"""The pods of a job on a cluster: which there are, how they are, and what one of them has said."""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.patches import Json
from hqclip.launch.pod_template import CONTAINER
from hqclip.launch.schedulers.protocol import Scheduler

OVER = ("Succeeded", "Failed")  # phases
READABLE = ("Running", *OVER)


def job_pods(cluster: Cluster, scheduler: Scheduler, job: str) -> list[tuple[int, Json]]:
    """The pods of a job with their node numbers; those that do not know theirs yet are left out."""
    pods = cluster.list(CORE, "pods", labelSelector=f"{scheduler.pod_label}={job}")
    numbers = [(pod["metadata"].get("annotations", {}).get(scheduler.node_annotation, ""), pod) for pod in pods]
    return sorted(((int(text), pod) for text, pod in numbers if text.isdigit()), key=lambda pair: pair[0])


def phase(pod: Json) -> str:
    """In Kubernetes' words."""
    return str(pod.get("status", {}).get("phase", ""))


def running(pods: list[tuple[int, Json]]) -> int:
    """How many of them run."""
    return sum(phase(pod) == "Running" for _, pod in pods)


def is_over(cluster: Cluster, name: str, uid: str) -> bool | None:
    """Whether the pod has ended; None if it is gone."""
    pod = cluster.get(CORE, "pods", name)
    if pod is None or pod["metadata"]["uid"] != uid:
        return None
    return phase(pod) in OVER


def pod_lines(cluster: Cluster, scheduler: Scheduler, job: str, node: int) -> Iterator[str]:
    """What the newest pod of a node has said so far."""
    pods = [pod for number, pod in job_pods(cluster, scheduler, job) if number == node]
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))[-1:]:
        yield from (line + "\n" for line in cluster.log_lines(pod["metadata"]["name"], container=CONTAINER))
