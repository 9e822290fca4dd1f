"""Pods in, rows of `kubectl get pods` out: what a server answers who is asked for `as=Table`."""

from __future__ import annotations

from typing import Any

NAMES = ("Name", "Ready", "Status", "Restarts", "Age", "IP", "Node", "Nominated Node", "Readiness Gates")


def is_asked(accept: str) -> bool:
    """Whether a request wants a table first of all."""
    return "as=Table" in accept.partition(",")[0]


def table(pods: list[dict[str, Any]], version: str, *, headers: bool = True, **metadata: Any) -> dict[str, Any]:
    """Without the objects, as `includeObject=None` wants it; a watch tells the columns once."""
    columns = [{"name": name, "type": "string", "format": "", "description": "", "priority": 0} for name in NAMES]
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {"resourceVersion": version, **metadata},
        "columnDefinitions": columns if headers else None,
        "rows": [{"cells": _cells(pod), "object": None} for pod in pods],
    }


def _cells(pod: dict[str, Any]) -> list[Any]:
    status, spec = pod.get("status", {}), pod.get("spec", {})
    told = status.get("containerStatuses", [])
    ready = f"{sum(one.get('ready', False) for one in told)}/{len(spec.get('containers', []))}"
    restarts = str(max((one.get("restartCount", 0) for one in told), default=0))
    where = [status.get("podIP", "<none>"), spec.get("nodeName", "<none>"), "<none>", "<none>"]
    return [pod["metadata"]["name"], ready, _status(pod), restarts, "5s", *where]


def _status(pod: dict[str, Any]) -> str:
    """As Kubernetes' own printer says it: the phase, unless a container has something to say."""
    status = pod.get("status", {})
    reason = status.get("reason") or status.get("phase", "")
    runs = False
    for container in reversed(status.get("containerStatuses", [])):
        state = container.get("state", {})
        ended = state.get("terminated", {})
        if state.get("waiting", {}).get("reason"):
            reason = state["waiting"]["reason"]
        elif ended.get("reason"):
            reason = ended["reason"]
        elif ended:
            reason = f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended['exitCode']}"
        elif "running" in state and container.get("ready"):
            runs = True
    for container in status.get("initContainerStatuses", []):
        waiting = container.get("state", {}).get("waiting", {}).get("reason", "")
        if waiting not in ("", "PodInitializing"):
            reason = f"Init:{waiting}"
    if reason == "Completed" and runs:
        reason = "NotReady"
    if "deletionTimestamp" in pod["metadata"] and status.get("phase") not in ("Succeeded", "Failed"):
        reason = "Terminating"
    return str(reason)
