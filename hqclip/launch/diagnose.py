"""Why a job does not run, in the words of whoever holds it back: queue, scheduler, quota, image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from hqclip.launch.exit_status import KILLED
from hqclip.launch.kube import CORE, Cluster
from hqclip.launch.patches import Json
from hqclip.launch.pods import HOPELESS, PodRow
from hqclip.launch.schedulers.protocol import Scheduler

MOST_PODS = 8  # of those in trouble that are asked for
_TELLING = ("Unschedulable", "NotEnoughResources", "Pending", "QuotaReserved")  # of events that are no warnings
_HARMLESS = (  # warnings that keep nothing from starting
    *("FailedToRetrieveImagePullSecret", "DNSConfigForming", "CheckLimitsForResolvConf", "MissingClusterDNS"),
    *("Unhealthy", "ProbeWarning", "FailedToUpdateEndpoint", "FailedToUpdateEndpointSlices"),
)
_OVER = ("Scheduled", "SuccessfulCreate")  # what was said before them holds no more
# Volcano's pod group says so of every job that it has not let in, and of every one that it is about to
_SAYS_NOTHING = re.compile(r".*\d+/\d+ tasks in gang unschedulable: pod group is (not )?ready,[^;]*")


def why_pending(cluster: Cluster, scheduler: Scheduler, body: Json, pods: list[PodRow]) -> str:
    """The most telling reason there is, empty if nobody gives one."""
    reasons = list(_reasons(cluster, scheduler, body, pods))
    telling = (reason for reason in reasons if not _SAYS_NOTHING.fullmatch(reason))
    return next(telling, next(iter(reasons), ""))


def _reasons(cluster: Cluster, scheduler: Scheduler, body: Json, pods: list[PodRow]) -> Iterator[str]:
    stuck = [pod for pod in pods if pod.is_troubled]
    for pod in stuck[:1]:
        yield from _stuck_containers(cluster.get(CORE, "pods", pod.name) or {})
    yield from scheduler.queue_reasons(cluster, body)
    # once all pods are there, the troubles of those who make them are over
    makers = scheduler.makers(body) if len(pods) < scheduler.nodes(body) else []
    for name in [*[pod.name for pod in pods if pod.waits][:1], *makers]:
        yield from _events(cluster, name)


def hopeless(cluster: Cluster, pods: Iterable[PodRow]) -> str:
    """What keeps a container from starting for good, empty if nothing does."""
    for pod in [pod for pod in pods if pod.cannot_start][:1]:
        found = _stuck_containers(cluster.get(CORE, "pods", pod.name) or {})
        return next((text for text in found if text.startswith(HOPELESS)), "")
    return ""


def killed(cluster: Cluster, pods: Iterable[PodRow]) -> str:
    """A container that ended without a chance to say why: by the kernel for its memory, or from outside."""
    ended = [pod for pod in pods if pod.has_ended and not pod.is_done]
    for pod in ended[:MOST_PODS]:
        full = cluster.get(CORE, "pods", pod.name) or {}
        for container in full.get("status", {}).get("containerStatuses", []):
            end = container.get("state", {}).get("terminated", {})
            if end.get("exitCode") == KILLED:
                return f"{pod.name}: {end.get('reason') or 'Killed'}"
    return ""


def _stuck_containers(pod: Json) -> Iterator[str]:
    status = pod.get("status", {})
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        waiting = container.get("state", {}).get("waiting", {})
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            yield f"{waiting['reason']}: {waiting.get('message', pod['metadata']['name'])}"


def _events(cluster: Cluster, about: str) -> Iterator[str]:
    """What holds the object of this name back, the newest first."""
    events = cluster.list(CORE, "events", fieldSelector=f"involvedObject.name={about}")
    for event in sorted(events, key=_when, reverse=True):
        reason = event.get("reason")
        if reason in _OVER:
            return
        if reason in _TELLING or (event.get("type") == "Warning" and reason not in _HARMLESS):
            yield f"{reason}: {event.get('message')}"


def _when(event: Json) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp"))
