"""What a Kubernetes API server says of pods and accounts of tasks of Kubeflow, as Kubernetes 1.34 was heard to say it.

Beside all that `FakeCluster` does: Pod Security at the namespace, quotas that want limits, reviews of what an account
may do, nodes, and groups of kinds.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hqclip.launch.pod_security import AGAINST
from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_api import Answer, Refused, Request, Resource, allows, forbidden, refused

ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
NAMED = (
    Resource("", "v1", "secrets", "Secret"),
    Resource("", "v1", "configmaps", "ConfigMap"),
    Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
)
REVIEWS = "localsubjectaccessreviews"
LEVEL = "pod-security.kubernetes.io/enforce"
RUNNER = "pipeline-runner"


class TaskCluster(FakeCluster):
    """`account_rules`: of a Role for Kubeflow's account of tasks, None for all; `limits`: that a quota has."""

    def __init__(self, namespace: str = "training", **given: Any) -> None:
        super().__init__(namespace, **given)
        self.account_rules: list[dict[str, Any]] | None = None
        self.limits: tuple[str, ...] = ()
        for resource in (ACCOUNTS, NODES, *NAMED):
            self.resources.append(resource)
            self.objects[resource] = {}
        self.add("serviceaccounts", {"metadata": {"name": RUNNER}})
        self.node("big", cpu="64", memory="512Gi", gpus=8)

    def node(self, name: str, *, cpu: str, memory: str, gpus: int = 0, **spec: Any) -> None:
        """One that has so much for pods."""
        has = {"cpu": cpu, "memory": memory, **({"nvidia.com/gpu": str(gpus)} if gpus else {})}
        self.add("nodes", {"metadata": {"name": name}, "spec": spec, "status": {"allocatable": has}})

    def forget_nodes(self) -> None:
        self.objects[NODES].clear()

    def enforce(self, level: str) -> None:
        """Let the namespace have this level of Pod Security."""
        self.found(self.resource("namespaces"), "", self.namespace)["metadata"]["labels"] = {LEVEL: level}

    def _perform(self, request: Request) -> Answer:
        if request.plural == REVIEWS:
            if not self._allowed(request):
                raise forbidden(self.user, request)
            return Answer(self._reviewed(request), 201)
        if request.verb == "create" and request.plural == "pods" and self._allowed(request):
            for why in self._refusals(request.body):
                raise refused(403, f'pods "{request.body["metadata"]["name"]}" is forbidden: {why}')
        return super()._perform(request)

    def _reviewed(self, request: Request) -> dict[str, Any]:
        """A review with its status; no reason is given for what is not allowed."""
        asked = request.body["spec"]["resourceAttributes"]
        assert asked["namespace"] == request.namespace == request.body["metadata"]["namespace"]
        assert request.body["spec"]["user"] == f"system:serviceaccount:{request.namespace}:{RUNNER}"
        what = Request("GET", "", {}, {}, "")
        what.verb, what.group, what.plural, what.sub = (asked[k] for k in ("verb", "group", "resource", "subresource"))
        is_allowed = self.account_rules is None or any(allows(rule, what) for rule in self.account_rules)
        return {**copy.deepcopy(request.body), "status": {"allowed": is_allowed}}

    def _refusals(self, pod: dict[str, Any]) -> Iterator[str]:
        labels = self.found(self.resource("namespaces"), "", self.namespace)["metadata"].get("labels", {})
        level = labels.get(LEVEL, "privileged")
        if problems := AGAINST[level](pod):
            yield f'violates PodSecurity "{level}:latest": {", ".join(problems)}'
        for name in self.limits:
            if not all(name in c["resources"].get("limits", {}) for c in pod["spec"]["containers"]):
                yield f"failed quota: lim: must specify limits.{name} for: main"

    def _discovered(self, path: str) -> dict[str, Any]:
        root, _, group = path.strip("/").partition("/")
        if root != "apis" or "/" in group:
            return super()._discovered(path)
        versions = [{"groupVersion": r.api_version, "version": r.version} for r in self.resources if r.group == group]
        if not versions:
            raise Refused("404 page not found\n", 404)
        about = {"versions": versions, "preferredVersion": versions[0]}
        return {"kind": "APIGroup", "apiVersion": "v1", "name": group, **about}
