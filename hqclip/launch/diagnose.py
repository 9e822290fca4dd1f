"""Why a job does not run, in the words of whoever holds it back: queue, scheduler, quota, image."""

from __future__ import annotations

from collections.abc import Iterable

from hqclip.launch.exit_status import KILLED
from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.patches import Json
from hqclip.launch.pods import phase
from hqclip.launch.schedulers.protocol import Scheduler

# what waiting does not mend: the name of an image or secret is wrong
HOPELESS = ("ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError")
_TELLING = (
    "FailedScheduling",
    "FailedCreate",
    "Unschedulable",
    "NotEnoughResources",
    "FailedMount",
    "Pending",
    "QuotaReserved",
)


def why_pending(cluster: Cluster, scheduler: Scheduler, body: Json, pods: list[tuple[int, Json]]) -> str:
    """The most telling reason there is, empty if nobody gives one."""
    name = body["metadata"]["name"]
    pending = [pod["metadata"]["name"] for _, pod in pods if phase(pod) == "Pending"]
    reasons = [
        *_stuck_containers(pods),
        *scheduler.queue_reasons(cluster, body),
        *_events(cluster, [*pending[:1], name, scheduler.first_node(name)]),
    ]
    return next(iter(reasons), "")


def hopeless(pods: list[tuple[int, Json]]) -> str:
    """What keeps a container from starting for good, empty if nothing does."""
    return next((text for text in _stuck_containers(pods) if text.startswith(HOPELESS)), "")


def killed(pods: list[tuple[int, Json]]) -> str:
    """A container that ended without a chance to say why: by the kernel for its memory, or from outside."""
    for _, pod in pods:
        for container in pod.get("status", {}).get("containerStatuses", []):
            end = container.get("state", {}).get("terminated", {})
            if end.get("exitCode") == KILLED:
                return f"{pod['metadata']['name']}: {end.get('reason') or 'Killed'}"
    return ""


def _stuck_containers(pods: list[tuple[int, Json]]) -> Iterable[str]:
    for _, pod in pods:
        status = pod.get("status", {})
        for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
            waiting = container.get("state", {}).get("waiting", {})
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                yield f"{waiting['reason']}: {waiting.get('message', pod['metadata']['name'])}"


def _events(cluster: Cluster, names: Iterable[str]) -> Iterable[str]:
    """Warnings about the objects of these names, the newest first."""
    for about in names:
        events = cluster.list(CORE, "events", fieldSelector=f"involvedObject.name={about}")
        for event in sorted(events, key=_when, reverse=True):
            if event.get("type") == "Warning" or event.get("reason") in _TELLING:
                yield f"{event.get('reason')}: {event.get('message')}"


def _when(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))
