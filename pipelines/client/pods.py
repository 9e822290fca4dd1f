"""The pods of a run, read from Kubernetes while they are there: what holds one back, and what it said."""

from __future__ import annotations

from typing import Any

from hqclip.errors import HQClipError, MissingSoftwareError, NotFoundError, UnavailableError
from hqclip.launch import kube
from hqclip.launch.kube import CORE, Cluster
from pipelines.client.connect import Kubeflow

CONTAINER = "main"  # where the task runs, beside Argo's own
PATIENCE_S = 10.0  # a cluster that does not answer by then is not reached


def open_cluster(kubeflow: Kubeflow, namespace: str = "") -> Cluster:
    """The Kubernetes cluster that pods and jobs are in. Raises `UnavailableError` if it is not reached from here."""
    try:
        cluster = kube.connect(namespace or kubeflow.kubernetes_namespace)
    except MissingSoftwareError as error:
        raise UnavailableError(str(error).partition(" (set KUBECONFIG")[0] + " (set KUBECONFIG)") from error
    return Cluster(cluster._api, cluster.namespace, patience_s=PATIENCE_S)


def what_holds_back(kubeflow: Kubeflow, pod: str) -> str:
    """Why a pod does not run, or how it ended, in the words of Kubernetes; empty if that cannot be seen."""
    if not pod:
        return ""
    try:
        body = open_cluster(kubeflow).get(CORE, "pods", pod)
    except HQClipError:
        return ""
    return _said(body) if body else ""


def pod_log(kubeflow: Kubeflow, pod: str) -> list[str]:
    """What a pod that is there said. Raises `NotFoundError`, and `UnavailableError` if the cluster is not reached."""
    if not pod:
        raise NotFoundError("its pod is not known")
    return list(open_cluster(kubeflow).log_lines(pod, container=CONTAINER))


def _said(body: dict[str, Any]) -> str:
    status = body.get("status", {})
    found = [each for each in status.get("containerStatuses", []) if each["name"] == CONTAINER]
    state = found[0].get("state", {}) if found else {}
    ended, waiting = state.get("terminated") or {}, state.get("waiting") or {}
    for about in (ended, waiting, *_unmet(status), status):
        if about.get("reason"):
            return ": ".join(filter(None, (str(about["reason"]), str(about.get("message") or ""))))
    return ""


def _unmet(status: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for each in status.get("conditions", []) if each.get("status") == "False"]
