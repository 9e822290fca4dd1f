"""`hqclip jobs`: what runs in a namespace, what it says, and how to end it. The janitor runs `gc` every ten minutes."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from typing import Any

from hqclip.errors import DataError, HQClipError, NotFoundError
from hqclip.launch.config import JobsCancelConfig, JobsGcConfig, JobsListConfig, JobsLogsConfig
from hqclip.launch.diagnose import why_pending
from hqclip.launch.follow import job_pods, pod_lines, running
from hqclip.launch.job import Job, folder
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.kubeflow import WORKFLOWS
from hqclip.launch.naming import KEY, LAUNCH_ID, OURS, SELECTOR, STAGE, STORE, clean
from hqclip.launch.patches import Json
from hqclip.launch.registry import KUBERNETES, load
from hqclip.launch.schedulers.protocol import ENDED, PENDING, RESTARTING, Scheduler
from hqclip.store import open_store

STALE_TIMES = 2.0  # a lease is judged by clocks here, so it has twice its time


def list_jobs(settings: JobsListConfig) -> dict[str, Any]:
    """Name, stage, phase, pods, restarts and reason of every job."""
    cluster = connect(settings.namespace)
    return {"namespace": cluster.namespace, "jobs": [_row(cluster, *found) for found in _jobs(cluster)]}


def _row(cluster: Cluster, scheduler: Scheduler, body: Json) -> dict[str, Any]:
    state = scheduler.state(cluster, body)
    name, labels = body["metadata"]["name"], body["metadata"].get("labels", {})
    pods = job_pods(cluster, scheduler, name)
    why = why_pending(cluster, scheduler, body, pods) if state.phase in (PENDING, RESTARTING) else ""
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
        found = list(_jobs(cluster, f",{LAUNCH_ID}={clean(settings.of)}"))
    cancelled = [body["metadata"]["name"] for scheduler, body in found if _delete(cluster, scheduler, body)]
    return {"namespace": cluster.namespace, "cancelled": cancelled}


def collect_garbage(settings: JobsGcConfig) -> dict[str, Any]:
    """Delete running and waiting jobs that nobody will ever look at again; their names with the reason.

    A job that cannot be judged or deleted stays, and is in the result and on stderr with the fault.
    """
    cluster = connect(settings.namespace)
    deleted: dict[str, str] = {}
    kept: dict[str, str] = {}
    for scheduler, body in _jobs(cluster):
        name = body["metadata"]["name"]
        try:
            reason = "" if scheduler.state(cluster, body).phase in ENDED else _unwanted(cluster, body)
            if reason and (settings.dry_run or _delete(cluster, scheduler, body)):
                deleted[name] = reason
        except HQClipError as error:
            kept[name] = str(error)
            print(f"hqclip jobs gc: {name} was not judged: {error}", file=sys.stderr, flush=True)
    return {"namespace": cluster.namespace, "deleted": deleted, "not_judged": kept, "dry_run": settings.dry_run}


def _unwanted(cluster: Cluster, body: Json) -> str:
    """Why a job is unwanted, empty if it is not."""
    for owner in body["metadata"].get("ownerReferences", []):
        if owner["kind"] == "Workflow" and owner["apiVersion"].startswith("argoproj.io/"):
            workflow = cluster.get(*WORKFLOWS, owner["name"])
            if workflow is None or workflow["metadata"]["uid"] != owner["uid"]:
                return f"its workflow {owner['name']} is gone"
            phase = workflow.get("status", {}).get("phase", "")
            if phase in ("Succeeded", "Failed", "Error"):
                return f"its workflow {owner['name']} has ended ({phase})"
    annotations = body["metadata"].get("annotations", {})
    return _stale(annotations[STORE], annotations[KEY]) if {STORE, KEY} <= set(annotations) else ""


def _stale(uri: str, key: str) -> str:
    store = open_store(uri)
    where = f"{folder(key)}/job.json"
    job = Job.from_json(store.read(where), where)
    if not job.lease_stale_s:
        return ""
    where = f"{folder(key)}/lease.json"
    try:
        lease = json.loads(store.read(where))
        holder, age = str(lease["owner"]), time.time() - float(lease["time"])
    except NotFoundError:
        return ""  # its launcher is only about to watch
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{where} in {uri}: not a lease: {error!r}") from error
    limit = STALE_TIMES * job.lease_stale_s
    return f"nobody has watched it for {age:.0f} s (lease of {holder})" if age > limit else ""


def _find(cluster: Cluster, name: str) -> tuple[Scheduler, Json]:
    for scheduler in _schedulers():
        body = cluster.get(*scheduler.kind, name)
        if body is not None and body["metadata"].get("labels", {}).items() >= OURS.items():
            return scheduler, body
    raise NotFoundError(
        f"there is no job {name!r} of hqclip in namespace {cluster.namespace}; `hqclip jobs list` has them"
    )


def _jobs(cluster: Cluster, further: str = "") -> Iterator[tuple[Scheduler, Json]]:
    for scheduler in _schedulers():
        for body in cluster.list(*scheduler.kind, labelSelector=SELECTOR + further):
            yield scheduler, body


def _schedulers() -> list[Scheduler]:
    return [load(name) for name in KUBERNETES]


def _delete(cluster: Cluster, scheduler: Scheduler, body: Json) -> bool:
    """Whether it was there: what bears its name by now is another job, and is let be."""
    return cluster.delete(*scheduler.kind, body["metadata"]["name"], uid=body["metadata"]["uid"])
