"""A run of Kubeflow by its id in, whether it is over or cancelled out, as the Kubernetes API says from within.

Every run is an Argo Workflow in the namespace of its pods, with its id in a label, and gets another one when it ends,
however it ends. The account that stock Kubeflow gives to tasks may list them. A whole one has megabytes: where their
labels do, only those are asked for.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.plain_http import NoRedirect

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
    return OVER if all(labels.get(COMPLETED) == "true" for labels, _ in found) else RUNNING


def was_cancelled(run: str) -> bool:
    """Whether somebody ended it: Kubeflow sets its deadline to 0, Argo a `shutdown`. False where that is not known."""
    found = _found(run, WHOLE)
    return any(spec.get("shutdown") or spec.get("activeDeadlineSeconds") == 0 for _, spec in found)


def _found(run: str, as_what: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Labels and spec of its workflows; none where nobody can be asked, or what is said is no list of them."""
    if not os.environ.get(HOST) or not (ACCOUNT / "token").is_file():
        return []
    try:
        workflows = _workflows(run, as_what)
        return [(_mapping(each["metadata"]["labels"]), _mapping(each.get("spec") or {})) for each in workflows]
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
        log.debug("lock", f"the state of run {run} is not known: {error}")
        return []


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a mapping was expected, not {type(value).__name__}")
    return value


def _workflows(run: str, as_what: str) -> list[dict[str, Any]]:
    namespace = (ACCOUNT / "namespace").read_text().strip()
    host, port = os.environ[HOST], os.environ.get(PORT, "443")
    chosen = urllib.parse.urlencode({"labelSelector": f"{RUN_LABEL}={run}"})
    request = urllib.request.Request(  # noqa: S310 - always https
        f"https://{f'[{host}]' if ':' in host else host}:{port}"
        f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows?{chosen}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}", "Accept": as_what},
    )
    trusted = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt")))
    with urllib.request.build_opener(trusted, NoRedirect()).open(request, timeout=TIMEOUT_S) as answer:
        return list(json.loads(answer.read())["items"] or [])  # none is null
