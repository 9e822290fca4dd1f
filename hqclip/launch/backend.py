"""The two kinds of objects that run a job on Kubernetes, side by side: how each is found and read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hqclip.launch import jobset, volcano
from hqclip.launch.kube import Cluster
from hqclip.launch.patches import Json
from hqclip.launch.state import State, jobset_state, volcano_state

BATCH = ("batch/v1", "jobs")


@dataclass(frozen=True)
class Backend:
    """`pods` selects the pods of a job, `node` is the annotation with their number."""

    name: str
    api: str
    plural: str
    read: Callable[[Cluster, Json], State]
    pods: str
    node: str

    def get(self, cluster: Cluster, name: str) -> Json | None:
        """The object of a job."""
        return cluster.get(self.api, self.plural, name)

    def selector(self, name: str) -> str:
        """The label selector of its pods."""
        return f"{self.pods}={name}"


def _read_jobset(cluster: Cluster, body: Json) -> State:
    child = cluster.get(*BATCH, f"{body['metadata']['name']}-{jobset.REPLICATED}-0")
    return jobset_state(body, child)


BACKENDS = {
    "volcano": Backend(
        "volcano",
        volcano.API,
        volcano.PLURAL,
        lambda _cluster, body: volcano_state(body),
        "volcano.sh/job-name",
        "volcano.sh/task-index",
    ),
    "jobset": Backend(
        "jobset",
        jobset.API,
        jobset.PLURAL,
        _read_jobset,
        "jobset.sigs.k8s.io/jobset-name",
        "batch.kubernetes.io/job-completion-index",
    ),
}
