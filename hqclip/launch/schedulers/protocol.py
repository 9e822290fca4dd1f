"""What a scheduler of Kubernetes must know: how a job is asked for, found, read, and why it waits.

One is a kind of object with a controller of its own. Nothing here or in its file needs the Kubernetes client, so that
machines can be planned, and objects be rendered, without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from hqclip.launch.job import Job
from hqclip.launch.patches import Json
from hqclip.launch.spec import LaunchSpec

if TYPE_CHECKING:
    from hqclip.launch.kube import Cluster

PENDING, RUNNING, RESTARTING, SUCCEEDED, FAILED = "pending", "running", "restarting", "succeeded", "failed"
ENDED = (SUCCEEDED, FAILED)


@dataclass(frozen=True)
class State:
    """`phase` is one of the five above; `reason` is the controller's, `killed` a pod that was; both may be empty."""

    phase: str
    restarts: int = 0
    reason: str = ""
    killed: str = ""


class Scheduler(Protocol):
    """One kind of object that runs jobs.

    `kind` is its API, group and version, and its plural. The pods of a job bear its name in the label `pod_label`, and
    their node number in the label and annotation `node_label`. `install` is what a cluster lacks that knows no such
    objects. `newer` has fields by which its oldest version that does is known, and what that version is. One that
    `keeps_names` confuses a job with the one that had its name just before (see `forgotten.py`).
    """

    name: str
    kind: tuple[str, str]
    pod_label: str
    node_label: str
    install: str
    newer: dict[str, str]
    keeps_names: bool

    def problems(self, spec: LaunchSpec) -> list[str]:
        """What it cannot do of a spec, a sentence each."""

    def render(self, spec: LaunchSpec, job: Job) -> Json:
        """The object that is created, with its patches."""

    def check(self, cluster: Cluster, spec: LaunchSpec) -> None:
        """Raises `ConfigError` for a wish that this cluster would pass over in silence."""

    def state(self, cluster: Cluster, body: Json) -> State:
        """What the controller says of a job, by its object."""

    def queue_reasons(self, cluster: Cluster, body: Json) -> Iterator[str]:
        """Why the queue does not let a job start, the most telling first."""

    def nodes(self, body: Json) -> int:
        """How many pods a job has once all are there."""

    def makers(self, body: Json) -> list[str]:
        """The names of the objects that make its pods, the job's own first: their events tell why pods are missing."""

    def node_of(self, job: str, pod: str) -> int | None:
        """The node number in the name of a pod; None for a pod that is none of its nodes."""


def told(condition: Json) -> str:
    """Reason and message of a condition."""
    return f"{condition.get('reason') or condition['type']}: {condition['message']}"
