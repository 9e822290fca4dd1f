"""A run of Kubeflow by its id in, whether it is over or cancelled out, as the Kubernetes API says from within.

Every run is an Argo Workflow in the namespace of its pods, with its id in a label, and gets another one when it ends,
however it ends. The account that stock Kubeflow gives to tasks may list them. A whole one has megabytes: where their
labels do, only those are asked for.
"""

from __future__ import annotations

import json
import os
import ssl
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from hqclip import log

OVER, RUNNING = "over", "running"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
HOST, PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"  # environment of every pod
TIMEOUT_S = 5.0
RUN_LABEL, COMPLETED = "pipeline/runid", "workflows.argoproj.io/completed"
WHOLE = "application/json"
LABELS_ONLY = f"{WHOLE};as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def state_of(run: str) -> str:
    """`OVER`, `RUNNING`, or "" where that is not known: outside a cluster, in another namespace, without the right."""
    found = _found(run, LABELS_ONLY)
    if not found:
        return ""
    return OVER if all(workflow["metadata"]["labels"].get(COMPLETED) == "true" for workflow in found) else RUNNING


def was_cancelled(run: str) -> bool:
    """Whether somebody ended it: Kubeflow sets its deadline to 0, Argo a `shutdown`. False where that is not known."""
    specs = [workflow.get("spec", {}) for workflow in _found(run, WHOLE)]
    return any(spec.get("shutdown") or spec.get("activeDeadlineSeconds") == 0 for spec in specs)


def _found(run: str, as_what: str) -> list[dict[str, Any]]:
    """Its workflows; none where nobody can be asked."""
    if not os.environ.get(HOST) or not (ACCOUNT / "token").is_file():
        return []
    try:
        return _workflows(run, as_what)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("lock", f"the state of run {run} is not known: {error}")
        return []


def _workflows(run: str, as_what: str) -> list[dict[str, Any]]:
    namespace = (ACCOUNT / "namespace").read_text().strip()
    host, port = os.environ[HOST], os.environ.get(PORT, "443")
    chosen = urllib.parse.urlencode({"labelSelector": f"{RUN_LABEL}={run}"})
    request = urllib.request.Request(  # noqa: S310 - always https
        f"https://{f'[{host}]' if ':' in host else host}:{port}"
        f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows?{chosen}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}", "Accept": as_what},
    )
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trusted) as answer:  # noqa: S310
        return list(json.loads(answer.read())["items"] or [])  # none is null
