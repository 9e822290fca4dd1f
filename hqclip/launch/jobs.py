"""`hqclip jobs list|logs|cancel`: what runs in a namespace, what it says, and how to end it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from hqclip.errors import NotFoundError
from hqclip.launch.config import JobsCancelConfig, JobsListConfig, JobsLogsConfig
from hqclip.launch.diagnose import why_pending
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.naming import KEY, LAUNCH_ID, OURS, SELECTOR, STAGE, STORE, clean
from hqclip.launch.patches import Json
from hqclip.launch.pods import job_pods, pod_lines, running
from hqclip.launch.registry import KUBERNETES, load
from hqclip.launch.schedulers.protocol import PENDING, RESTARTING, Scheduler


def list_jobs(settings: JobsListConfig) -> dict[str, Any]:
    """Name, stage, phase, pods, restarts and reason of every job."""
    cluster = connect(settings.namespace)
    return {"namespace": cluster.namespace, "jobs": [_row(cluster, *found) for found in all_jobs(cluster)]}


def _row(cluster: Cluster, scheduler: Scheduler, body: Json) -> dict[str, Any]:
    state = scheduler.state(cluster, body)
    name, labels = body["metadata"]["name"], body["metadata"].get("labels", {})
    pods = job_pods(cluster, scheduler, name)
    waits = state.phase in (PENDING, RESTARTING) and not running(pods)
    why = why_pending(cluster, scheduler, body, pods) if waits else ""
    return {
        "job": name,
        "scheduler": scheduler.name,
        "stage": labels.get(STAGE, ""),
        "launch_id": labels.get(LAUNCH_ID, ""),
        "phase": state.phase,
        "pods_running": running(pods),
        "restarts": state.restarts,
        "reason": why or state.reason,
        "created": body["metadata"].get("creationTimestamp", ""),
        "store": body["metadata"].get("annotations", {}).get(STORE, ""),
        "key": body["metadata"].get("annotations", {}).get(KEY, ""),
    }


def print_logs(settings: JobsLogsConfig) -> dict[str, Any]:
    """The output on stderr, where logs belong; what was printed as the result."""
    cluster = connect(settings.namespace)
    scheduler, _ = _find(cluster, settings.job)
    lines = 0
    for line in pod_lines(cluster, scheduler, settings.job, settings.node):
        sys.stderr.write(line)
        lines += 1
    return {"job": settings.job, "node": settings.node, "lines": lines}


def cancel_jobs(settings: JobsCancelConfig) -> dict[str, Any]:
    """Delete them; their names. Raises `NotFoundError` if no job has this name; a launch id may have none left."""
    cluster = connect(settings.namespace)
    if settings.job:
        found = [_find(cluster, settings.job)]
    else:
        found = list(all_jobs(cluster, f",{LAUNCH_ID}={clean(settings.of)}"))
    cancelled = [body["metadata"]["name"] for scheduler, body in found if delete(cluster, scheduler, body)]
    return {"namespace": cluster.namespace, "cancelled": cancelled}


def _find(cluster: Cluster, name: str) -> tuple[Scheduler, Json]:
    for scheduler in _schedulers():
        body = cluster.get(*scheduler.kind, name)
        if body is not None and body["metadata"].get("labels", {}).items() >= OURS.items():
            return scheduler, body
    raise NotFoundError(
        f"there is no job {name!r} of hqclip in namespace {cluster.namespace}; `hqclip jobs list` has them"
    )


def all_jobs(cluster: Cluster, further: str = "") -> Iterator[tuple[Scheduler, Json]]:
    """Those of hqclip in the namespace, by whichever scheduler; `further` is added to the label selector."""
    for scheduler in _schedulers():
        for body in cluster.list(*scheduler.kind, labelSelector=SELECTOR + further):
            yield scheduler, body


def _schedulers() -> list[Scheduler]:
    return [load(name) for name in KUBERNETES]


def delete(cluster: Cluster, scheduler: Scheduler, body: Json) -> bool:
    """Whether it was there: what bears its name by now is another job, and is let be."""
    return cluster.delete(*scheduler.kind, body["metadata"]["name"], uid=body["metadata"]["uid"])
