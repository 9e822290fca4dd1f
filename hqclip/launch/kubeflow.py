"""What a launcher inside a run of Kubeflow is part of: its pod, the run, and the workflow that shall own its jobs."""

from __future__ import annotations

import os

from hqclip.launch.kube import CORE, OWN_NAMESPACE, Cluster
from hqclip.launch.patches import Json

WORKFLOWS = ("argoproj.io/v1alpha1", "workflows")


def run_id(cluster: Cluster) -> str:
    """The run that this process belongs to, empty if to none."""
    return str(_labels(_own_pod(cluster)).get("pipeline/runid", ""))


def owner(cluster: Cluster) -> Json | None:
    """The Argo Workflow of this pod as an owner: what it owns is deleted with it. Never the pod: that may be evicted.

    None outside Kubeflow, and in a pod of another namespace, as owners must be of the same: then lease and janitor end
    what is left alone.
    """
    pod = _own_pod(cluster)
    if pod is None or pod["metadata"].get("namespace", cluster.namespace) != cluster.namespace:
        return None
    name = _labels(pod).get("workflows.argoproj.io/workflow", "")
    workflow = cluster.get(*WORKFLOWS, name) if name else None
    if workflow is None:
        return None
    return {
        "apiVersion": WORKFLOWS[0],
        "kind": "Workflow",
        "name": name,
        "uid": workflow["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }


def _own_pod(cluster: Cluster) -> Json | None:
    """The pod this process runs in, None outside Kubeflow; in it, KFP says its name."""
    name = os.environ.get("KFP_POD_NAME", "")
    if not name:
        return None
    home = OWN_NAMESPACE.read_text().strip() if OWN_NAMESPACE.exists() else cluster.namespace
    return cluster.elsewhere(home).get(CORE, "pods", name)


def _labels(pod: Json | None) -> dict[str, str]:
    return dict((pod or {}).get("metadata", {}).get("labels", {}))
