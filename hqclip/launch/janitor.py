"""`hqclip jobs gc`, which the janitor of a namespace runs every ten minutes: what nobody wants any more is deleted."""

from __future__ import annotations

import time
from typing import Any

from hqclip import log
from hqclip.errors import HQClipError
from hqclip.launch.config import JobsGcConfig
from hqclip.launch.job import read_job
from hqclip.launch.jobs import all_jobs, delete
from hqclip.launch.kube import Cluster, connect
from hqclip.launch.kubeflow import WORKFLOWS
from hqclip.launch.lease import last_look
from hqclip.launch.naming import KEY, STORE
from hqclip.launch.patches import Json
from hqclip.launch.schedulers.protocol import ENDED
from hqclip.store import open_store

STALE_TIMES = 2.0  # a lease is judged by clocks here, so it has twice its time


def collect_garbage(settings: JobsGcConfig) -> dict[str, Any]:
    """Delete running and waiting jobs that nobody will ever look at again; their names with the reason.

    A job that cannot be judged or deleted stays, and is in the result and on stderr with the fault.
    """
    cluster = connect(settings.namespace)
    deleted: dict[str, str] = {}
    kept: dict[str, str] = {}
    for scheduler, body in all_jobs(cluster):
        name = body["metadata"]["name"]
        try:
            reason = "" if scheduler.state(cluster, body).phase in ENDED else _unwanted(cluster, body)
            if reason and (settings.dry_run or delete(cluster, scheduler, body)):
                deleted[name] = reason
        except HQClipError as error:
            kept[name] = str(error)
            log.warning("jobs gc", f"{name} was not judged: {error}")
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
    job = read_job(store, key)
    if not job.lease_stale_s:
        return ""
    last = last_look(store, key)
    if last is None:
        return ""  # its launcher is only about to watch
    age, limit = time.time() - last.time, STALE_TIMES * job.lease_stale_s
    return f"nobody has watched it for {age:.0f} s (lease of {last.owner})" if age > limit else ""
