"""A run of Kubeflow by its id in, whether it is over out, as the Kubernetes API of the cluster says from within.

Every run is an Argo Workflow in the namespace of its pods, with its id in a label, and gets another one when it ends,
however it ends. The account that stock Kubeflow gives to tasks may list them. Only their labels are asked for: a whole
one has megabytes.
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
LABELS_ONLY = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"


def state_of(run: str) -> str:
    """`OVER`, `RUNNING`, or "" where that is not known: outside a cluster, in another namespace, without the right."""
    if not os.environ.get(HOST) or not (ACCOUNT / "token").is_file():
        return ""
    try:
        found = _workflows(run)
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("lock", f"the state of run {run} is not known: {error}")
        return ""
    if not found:
        return ""
    return OVER if all(workflow["metadata"]["labels"].get(COMPLETED) == "true" for workflow in found) else RUNNING


def _workflows(run: str) -> list[dict[str, Any]]:
    namespace = (ACCOUNT / "namespace").read_text().strip()
    host, port = os.environ[HOST], os.environ.get(PORT, "443")
    chosen = urllib.parse.urlencode({"labelSelector": f"{RUN_LABEL}={run}"})
    request = urllib.request.Request(  # noqa: S310 - always https
        f"https://{f'[{host}]' if ':' in host else host}:{port}"
        f"/apis/argoproj.io/v1alpha1/namespaces/{namespace}/workflows?{chosen}",
        headers={"Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}", "Accept": LABELS_ONLY},
    )
    trusted = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=trusted) as answer:  # noqa: S310
        return list(json.loads(answer.read())["items"] or [])  # none is null
