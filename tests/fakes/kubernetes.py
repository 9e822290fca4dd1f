"""A Kubernetes API server in memory for the real client: objects, logs, rights, faults, and controllers driven by hand.

with FakeCluster(rules=role["rules"]) as cluster:
    client = ApiClient(Configuration(host=cluster.url))
    cluster.commit_then_drop("POST", "/jobs$")
    ...
    cluster.start_pods("train")
    cluster.end_pod("train-node-0", 64, message="no such shard")
    cluster.assert_all_faults_fired()
"""

from __future__ import annotations

import base64
import copy
import re
import threading
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from tests.fakes.faulty import Fault, Server
from tests.fakes.kubernetes_admission import admit, admit_change
from tests.fakes.kubernetes_api import (
    Answer,
    Refused,
    Request,
    Resource,
    allows,
    field_selected,
    forbidden,
    not_served,
    refused,
    selected,
    status,
)
from tests.fakes.kubernetes_controllers import Controllers
from tests.fakes.kubernetes_server import Handler
from tests.fakes.kubernetes_table import is_asked, table

MERGE_PATCH = "application/merge-patch+json"


class FakeCluster(Controllers):
    """In a thread, on a free port, with the namespaces `namespace` and default, and Volcano's queue default.

    `installed`: custom resources there are (plural or full name), None for all. `rules`: of a Role in `namespace` for
    `user`, `cluster_rules`: of a ClusterRole; with neither, everything is allowed. `lacks`: fields that its versions of
    custom resources do not know.
    """

    def __init__(
        self,
        namespace: str = "training",
        installed: Collection[str] | None = None,
        rules: list[dict[str, Any]] | None = None,
        cluster_rules: list[dict[str, Any]] | None = None,
        service_account: str = "launcher",
        lacks: Collection[str] = (),
    ) -> None:
        super().__init__(namespace, installed)
        self.lacks = lacks
        self.rules, self.cluster_rules = rules, cluster_rules
        self.user = f"system:serviceaccount:{namespace}:{service_account}"
        for name in {namespace, "default"}:
            self.add("namespaces", {"metadata": {"name": name}, "status": {"phase": "Active"}})
        if any(resource.plural == "queues" for resource in self.resources):
            self.queue("default")
        self._server = Server(self.answer, Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeCluster:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        for error in self._server.errors:
            raise error

    def queue(self, name: str, state: str = "Open") -> None:
        """Volcano has this queue."""
        self.add("queues", {"metadata": {"name": name}, "spec": {"weight": 1}, "status": {"state": state}})

    def fail(
        self,
        method: str,
        pattern: str,
        code: int,
        times: int = 1,
        *,
        retry_after: int | None = None,
        reason: str | None = None,
        message: str = "",
        skip: int = 0,
    ) -> Fault:
        """Answer with an error; nothing is done."""
        details = {} if retry_after is None else {"retryAfterSeconds": retry_after}
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
        answer = Answer(status(code, message, reason, **details), code, headers)
        return self.expect(Fault("fail", method, pattern, times, skip, answer))

    def drop_log_after(self, pod: str, n_lines: int, times: int = 1) -> Fault:
        """Break the stream of a log after so many lines of it."""
        return self.expect(Fault("cut", "GET", f"/pods/{re.escape(pod)}/log", times, lines=n_lines))

    def drop_watch_after(self, plural: str, n_lines: int, times: int = 1) -> Fault:
        """Break the stream of a watch after so many lines of it."""
        return self.expect(Fault("cut", "GET", rf"/{plural}\?.*watch=true", times, lines=n_lines))

    def used(self) -> set[tuple[str, str, str, str]]:
        """Verb, group, resource[/subresource] and namespace of every request so far."""
        return {request.used for request in list(self.requests) if request.verb}

    def answer(self, request: Request) -> Answer | None:
        """What a request is answered; None if the connection is to break."""
        with self.changed:
            fault = self.noticed(request)
            if fault.kind in ("drop", "fail"):
                return fault.answer
            try:
                answer = self._perform(request)
            except Refused as refusal:
                answer = Answer(refusal.body, refusal.code)
            answer = replace(answer, body=copy.deepcopy(answer.body), cut=fault.lines)
            if fault.do is not None:
                fault.do()
            return None if fault.kind == "commit_then_drop" else answer

    def _perform(self, request: Request) -> Answer:
        if not request.verb:
            return Answer(self._discovered(request.path))
        if not self._allowed(request):
            raise forbidden(self.user, request)
        wanted = request.group, request.plural
        same = [told for told in self.resources if (told.group, told.plural) == wanted]
        found = [told for told in same if request.version in (told.version, *told.older)]
        if not found or request.sub not in ("", "status", *(["log"] if found[0].kind == "Pod" else [])):
            raise not_served(request.group)
        if request.sub == "log":
            with_follow = request.flag("follow")
            return Answer(lines=self.read_log(request.namespace, request.name, request.query, with_follow))
        verbs = {
            "create": self._create,
            "get": lambda resource, told: Answer(self.found(resource, told.namespace, told.name)),
            "list": self._list,
            "watch": self._watch,
            "patch": self._patch,
            "delete": self._delete,
            "deletecollection": self._delete_collection,
        }
        if request.verb not in verbs:
            raise refused(405)
        answer = verbs[request.verb](found[0], request)
        if request.version in found[0].older:
            told = f"{request.group}/{request.version} {found[0].kind} is deprecated"
            answer.headers["Warning"] = f'299 - "{told}"'
        return answer

    def _allowed(self, request: Request) -> bool:
        rules = list(self.cluster_rules or [])
        if request.namespace == self.namespace:
            rules += self.rules or []
        nothing_said = self.rules is None and self.cluster_rules is None
        return nothing_said or any(allows(rule, request) for rule in rules)

    def _discovered(self, path: str) -> dict[str, Any]:
        """What /apis/GROUP/VERSION says, which everybody may read."""
        if path == "/version":
            return {"major": "1", "minor": "34", "gitVersion": "v1.34.0"}
        _, _, group_version = path.strip("/").partition("/")
        served = dict.fromkeys(v for r in self.resources if r.group == group_version for v in (r.version, *r.older))
        if served:
            versions = [{"groupVersion": f"{group_version}/{version}", "version": version} for version in served]
            group = {"name": group_version, "versions": versions, "preferredVersion": versions[0]}
            return {"kind": "APIGroup", "apiVersion": "v1", **group}
        told = [resource for resource in self.resources if resource.api_version == group_version]
        if not told:
            raise Refused("404 page not found\n", 404)
        resources = [{"name": r.plural, "namespaced": r.namespaced, "kind": r.kind} for r in told]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}

    def _create(self, resource: Resource, request: Request) -> Answer:
        obj = copy.deepcopy(request.body)
        if resource.namespaced and ("", request.namespace) not in self.objects[self.resource("namespaces")]:
            raise refused(404, f'namespaces "{request.namespace}" not found', name=request.namespace, kind="namespaces")
        if (obj.get("apiVersion"), obj.get("kind")) != (resource.api_version, resource.kind):
            raise refused(400, f"the kind in the data ({obj.get('kind')}) does not match {resource.kind}")
        if obj.get("metadata", {}).get("namespace", request.namespace) != request.namespace:
            raise refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        queues = {} if "queues" not in {told.plural for told in self.resources} else self._queues()
        warnings = admit(resource, obj, queues, self.lacks, strict=request.query.get("fieldValidation") == "Strict")
        name = obj["metadata"]["name"]
        if (request.namespace, name) in self.objects[resource]:
            gone = "object is being deleted: " if self._is_going(resource, request.namespace, name) else ""
            message = f'{gone}{resource.full} "{name}" already exists'
            raise refused(409, message, "AlreadyExists", name=name, group=resource.group, kind=resource.plural)
        if resource.custom:
            obj.pop("status", None)
        for key in ("uid", "creationTimestamp", "resourceVersion", "generation"):
            obj["metadata"].pop(key, None)
        stored = self.store(resource, obj, request.namespace, keep=not request.query.get("dryRun"))
        told = ", ".join('299 - "' + warning.replace('"', '\\"') + '"' for warning in warnings)
        return Answer(stored, 201, {"Warning": told} if told else {})

    def _queues(self) -> dict[str, str]:
        queues = self.objects[self.resource("queues")]
        return {name: queue.get("status", {}).get("state", "") for (_, name), queue in queues.items()}

    def _is_going(self, resource: Resource, namespace: str, name: str) -> bool:
        return "deletionTimestamp" in self.found(resource, namespace, name)["metadata"]

    def _list(self, resource: Resource, request: Request) -> Answer:
        items = self._matching(resource, request)
        start = int(base64.b64decode(request.query.get("continue", "")) or 0)
        end = start + int(request.query.get("limit") or len(items) or 1)
        metadata: dict[str, Any] = {"resourceVersion": str(self.version)}
        if end < len(items):
            token = base64.b64encode(str(end).encode()).decode()
            metadata |= {"continue": token, "remainingItemCount": len(items) - end}
        shown = items[start:end]
        if is_asked(request.accept) and resource.kind == "Pod":
            return Answer(table(shown, metadata.pop("resourceVersion"), **metadata))
        if not resource.custom:
            shown = [{key: obj[key] for key in obj if key not in ("apiVersion", "kind")} for obj in shown]
        kind = {"apiVersion": resource.api_version, "kind": f"{resource.kind}List"}
        return Answer({**kind, "metadata": metadata, "items": shown})

    def _watch(self, resource: Resource, request: Request) -> Answer:
        def fits(obj: dict[str, Any]) -> bool:
            return self._fits(resource, request, obj)

        lines = self.watched(resource, request, fits, copy.deepcopy(self._matching(resource, request)))
        return Answer(lines=lines, headers={"Content-Type": "application/json"})

    def _fits(self, resource: Resource, request: Request, obj: dict[str, Any]) -> bool:
        labels, fields = (request.query.get(key, "") for key in ("labelSelector", "fieldSelector"))
        return (
            request.namespace in ("", obj["metadata"].get("namespace", ""))
            and selected(labels, obj["metadata"].get("labels", {}))
            and field_selected(fields, resource, obj)
        )

    def _matching(self, resource: Resource, request: Request) -> list[dict[str, Any]]:
        return [obj for _, obj in sorted(self.objects[resource].items()) if self._fits(resource, request, obj)]

    def _patch(self, resource: Resource, request: Request) -> Answer:
        if request.content_type != MERGE_PATCH:
            message = "the body of the request was in an unknown format - accepted media types include: "
            raise refused(415, message + MERGE_PATCH, "UnsupportedMediaType")
        old = self.found(resource, request.namespace, request.name)
        version = request.body.get("metadata", {}).get("resourceVersion", old["metadata"]["resourceVersion"])
        if version != old["metadata"]["resourceVersion"]:
            message = f'Operation cannot be fulfilled on {resource.full} "{request.name}": the object has been modified'
            raise refused(409, message, name=request.name, group=resource.group, kind=resource.plural)
        parts = ("status",) if request.sub == "status" else tuple(key for key in request.body if key != "status")
        new = _merged(old, {key: value for key, value in request.body.items() if key in parts})
        admit_change(resource, old, new)
        if not request.query.get("dryRun"):
            old.clear()
            old.update(new)
            self.touch(old)
        return Answer(new)

    def _delete(self, resource: Resource, request: Request) -> Answer:
        obj = self.found(resource, request.namespace, request.name)
        uid = request.body.get("preconditions", {}).get("uid", obj["metadata"]["uid"])
        if uid != obj["metadata"]["uid"]:
            message = f'Operation cannot be fulfilled on {resource.full} "{request.name}": Precondition failed: UID'
            raise refused(409, message, name=request.name, group=resource.group, kind=resource.plural)
        default = "Orphan" if resource.full == "jobs.batch" else "Background"
        policy = request.body.get("propagationPolicy") or request.query.get("propagationPolicy") or default
        if request.query.get("dryRun") or not self.remove(resource, request.namespace, request.name, policy):
            return Answer(obj)
        details = {"name": request.name, "group": resource.group, "kind": resource.plural, "uid": uid}
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})

    def _delete_collection(self, resource: Resource, request: Request) -> Answer:
        for obj in self._matching(resource, request):
            self.remove(resource, obj["metadata"].get("namespace", ""), obj["metadata"]["name"], "Background")
        return Answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})


def _merged(old: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    result = copy.deepcopy(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result
