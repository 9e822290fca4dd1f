"""The pods of a job on a cluster: which there are, how they are, and what one of them has said."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.patches import Json
from hqclip.launch.pod_template import CONTAINER
from hqclip.launch.schedulers.protocol import Scheduler

OVER = ("Succeeded", "Failed")  # phases
READABLE = ("Running", *OVER)
NAME, STATUS = "Name", "Status"  # columns
# what waiting does not mend: the name of an image or secret is wrong
HOPELESS = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_RUNS, _DONE = ("Running", "NotReady"), ("Completed", "Succeeded")  # in the words of `kubectl get pods`
_WAITS = re.compile(r"Pending|SchedulingGated|ContainerCreating|PodInitializing|Init:\d+/\d+")


@dataclass(frozen=True)
class PodRow:
    """A pod as `kubectl get pods` shows it: `status` is its phase, or why its containers wait or ended.

    `born` tells pods of the same name apart, one after the other, as far as they were watched.
    """

    node: int
    name: str
    status: str
    born: int = 0

    @property
    def runs(self) -> bool:
        """Whether its containers run."""
        return self.status in _RUNS

    @property
    def is_done(self) -> bool:
        """Whether it has ended well."""
        return self.status in _DONE

    @property
    def waits(self) -> bool:
        """Whether it waits, for a machine or for its containers, and nothing is wrong as far as is known."""
        return _WAITS.fullmatch(self.status) is not None

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, well or badly; one that cannot start has not."""
        return self.is_done or (self.is_troubled and not self.cannot_start)

    @property
    def cannot_start(self) -> bool:
        """Whether a container of it waits for what waiting does not mend."""
        return self.status.removeprefix("Init:") in HOPELESS

    @property
    def is_troubled(self) -> bool:
        """Whether a container cannot start, or ended badly."""
        return not (self.runs or self.is_done or self.waits or self.status == "Terminating")


def job_pods(cluster: Cluster, scheduler: Scheduler, job: str) -> list[PodRow]:
    """The pods of a job, by node; those that its scheduler did not make are left out."""
    return read_rows(scheduler, job, cluster.table(CORE, "pods", labelSelector=f"{scheduler.pod_label}={job}")[0])


def read_rows(scheduler: Scheduler, job: str, rows: Iterable[Json], born: int = 0) -> list[PodRow]:
    """Rows of a table as pods with their node numbers."""
    found = [(scheduler.node_of(job, row[NAME]), row) for row in rows]
    pods = [PodRow(node, row[NAME], row[STATUS], born) for node, row in found if node is not None]
    return sorted(pods, key=lambda pod: (pod.node, pod.name))


def phase(pod: Json) -> str:
    """In Kubernetes' words."""
    return str(pod.get("status", {}).get("phase", ""))


def running(pods: list[PodRow]) -> int:
    """How many of them run."""
    return sum(pod.runs for pod in pods)


def is_over(cluster: Cluster, name: str, uid: str) -> bool | None:
    """Whether the pod has ended; None if it is gone."""
    pod = cluster.get(CORE, "pods", name)
    if pod is None or pod["metadata"]["uid"] != uid:
        return None
    return phase(pod) in OVER


def pod_lines(cluster: Cluster, scheduler: Scheduler, job: str, node: int) -> Iterator[str]:
    """What the newest pod of a node has said so far."""
    selector = f"{scheduler.pod_label}={job},{scheduler.node_label}={node}"
    pods = cluster.list(CORE, "pods", labelSelector=selector)
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")))[-1:]:
        yield from (line + "\n" for line in cluster.log_lines(pod["metadata"]["name"], container=CONTAINER))
