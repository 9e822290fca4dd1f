"""`python -m pipelines logs`: what the pods of a run said, read from Kubernetes while they are there."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hqclip.errors import AccessError, HQClipError, MissingSoftwareError, NotFoundError, UnavailableError
from hqclip.launch import kube
from hqclip.launch.kube import CORE, Cluster
from hqclip.settings import did_you_mean
from pipelines.client import connect
from pipelines.client.connect import Kubeflow
from pipelines.client.output import say
from pipelines.client.tasks import Task, add_run_argument, find_run, is_launched, tasks_of

RUN_ID = "pipeline/runid"  # the label that Kubeflow gives to the pods of a run
CONTAINER = "main"  # where the task runs, beside Argo's own
PATIENCE_S = 10.0  # a cluster that does not answer by then is not reached


@dataclass(frozen=True)
class Pod:
    """A pod of a run: the task it ran for, and how its container ended."""

    name: str
    task: str
    reason: str  # OOMKilled, Error, ImagePullBackOff, Evicted, or nothing
    exit_code: int | None
    message: str
    is_ours: bool  # and not one of Kubeflow's drivers


def open_cluster(kubeflow: Kubeflow, namespace: str = "") -> Cluster:
    """The Kubernetes cluster that pods and jobs are in. Raises `UnavailableError` if it is not reached from here."""
    try:
        cluster = kube.connect(namespace or kubeflow.kubernetes_namespace)
    except MissingSoftwareError as error:
        raise UnavailableError(str(error).partition(" (set KUBECONFIG")[0] + " (set KUBECONFIG)") from error
    return Cluster(cluster._api, cluster.namespace, patience_s=PATIENCE_S)


def pods_of(cluster: Cluster, run: Any) -> list[Pod]:
    """The pods of a run that are still there, the oldest first."""
    found = cluster.list(CORE, "pods", labelSelector=f"{RUN_ID}={run.run_id}")
    by_name = {name: task for task in tasks_of(run) for name in task.pods}
    return [_pod(body, by_name) for body in sorted(found, key=_created)]


def lines_of(cluster: Cluster, pod: Pod, tail: int = 0) -> Iterator[str]:
    """The last lines (0: all) of what it said."""
    return cluster.log_lines(pod.name, container=CONTAINER, **({"tailLines": str(tail)} if tail else {}))


def _created(body: dict[str, Any]) -> tuple[str, str]:
    return str(body["metadata"].get("creationTimestamp", "")), str(body["metadata"]["name"])


def _pod(body: dict[str, Any], by_name: dict[str, Task]) -> Pod:
    name, status = str(body["metadata"]["name"]), body.get("status", {})
    statuses = [s for s in status.get("containerStatuses", []) if s["name"] == CONTAINER]
    state = statuses[0].get("state", {}) if statuses else {}
    ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    return Pod(
        name=name,
        task=by_name[name].name if name in by_name else name,
        reason=str(ended.get("reason") or waiting.get("reason") or status.get("reason") or ""),
        exit_code=ended.get("exitCode"),
        message=str(ended.get("message") or waiting.get("message") or status.get("message") or ""),
        is_ours="-driver" not in name,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_run_argument(parser)
    parser.add_argument("--task", default="", help="only this task")
    parser.add_argument("--tail", type=int, default=0, metavar="LINES", help="only the last lines of each pod (all)")
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Lines on stdout, each with its task."""
    kubeflow = connect.connect(given)
    found = find_run(kubeflow, given.run)
    where = f"see them in the UI: {kubeflow.link('runs', found.run_id)}"
    if is_launched(found):
        where += "; what launched jobs say is in `hqclip jobs logs`, and in launch/ of the store"
    try:
        cluster = open_cluster(kubeflow)
        pods = [pod for pod in pods_of(cluster, found) if pod.is_ours]
    except (UnavailableError, AccessError) as error:
        raise type(error)(f"logs cannot be read from here: {error}; {where}") from error
    chosen = [pod for pod in pods if given.task in ("", pod.task, pod.name)]
    if given.task and pods and not chosen:
        known = sorted({pod.task for pod in pods})
        several = ", ".join(known)
        raise NotFoundError(f"no pod ran for task {given.task!r}{did_you_mean(given.task, known)}; one of {several}")
    if not chosen:
        raise NotFoundError(f"no pods of run {found.run_id} are left (they are deleted a while after its end); {where}")
    for pod in chosen:
        try:
            for line in lines_of(cluster, pod, given.tail):
                print(f"[{pod.task}] {line}")
        except HQClipError as error:
            say(f"[{pod.task}] {error}")
    return 0
