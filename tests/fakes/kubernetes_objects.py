"""The objects of `FakeCluster` and the lines that its containers wrote: stored, changed, collected as garbage."""

from __future__ import annotations

import copy
import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.kubernetes_api import RESOURCES, Resource, missing, refused
from tests.fakes.kubernetes_watch import History

ENDED = ("Succeeded", "Failed")


class Objects(History):
    """Everything a cluster keeps; `changed` is notified of each change, `clock` says what time it is."""

    def __init__(self, namespace: str, installed: Collection[str] | None) -> None:
        """`installed`: full or short names of the custom resources there are; None for all."""
        super().__init__()
        self.namespace = namespace
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.resources = [
            resource
            for resource in RESOURCES
            if installed is None or not resource.custom or {resource.full, resource.plural} & set(installed)
        ]
        self.objects: dict[Resource, dict[tuple[str, str], dict[str, Any]]] = {key: {} for key in self.resources}
        self.lines: dict[tuple[str, str, bool], list[tuple[datetime, str]]] = {}  # of pod uid, container, previous
        self._kinds: dict[str, Resource] = {}  # by uid

    def resource(self, name: str) -> Resource:
        """By plural (jobs: Volcano's, if there is a Volcano) or in full (jobs.batch)."""
        return next(resource for resource in self.resources if name in (resource.plural, resource.full))

    def add(self, resource: str, obj: dict[str, Any], namespace: str | None = None) -> dict[str, Any]:
        """Put an object there as it is, past every check."""
        with self.changed:
            return self.store(self.resource(resource), obj, self.namespace if namespace is None else namespace)

    def get(self, resource: str, name: str, namespace: str | None = None) -> dict[str, Any]:
        """The object itself: what is changed in it is changed in the cluster."""
        return self.found(self.resource(resource), namespace or self.namespace, name)

    def names(self, resource: str) -> list[str]:
        with self.changed:
            return sorted(name for _, name in self.objects[self.resource(resource)])

    def delete(self, resource: str, name: str, namespace: str | None = None, policy: str = "Background") -> None:
        """As somebody else would, with kubectl."""
        with self.changed:
            self.remove(self.resource(resource), namespace or self.namespace, name, policy)

    def hold(self, resource: str, name: str) -> None:
        """From now on deletion only marks the object, until `release`."""
        with self.changed:
            self.get(resource, name)["metadata"]["finalizers"] = ["tests/hold"]

    def release(self, resource: str, name: str) -> None:
        with self.changed:
            metadata = self.get(resource, name)["metadata"]
            del metadata["finalizers"]
            if "deletionTimestamp" in metadata:
                self.delete(resource, name)

    def found(self, resource: Resource, namespace: str, name: str) -> dict[str, Any]:
        try:
            return self.objects[resource][namespace if resource.namespaced else "", name]
        except KeyError:
            raise missing(resource, name) from None

    def store(self, resource: Resource, obj: dict[str, Any], namespace: str, *, keep: bool = True) -> dict[str, Any]:
        """A new object with what the server writes into its metadata; without `keep` nothing is kept of it."""
        obj = copy.deepcopy(obj)
        obj = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
        told = {"uid": str(uuid.uuid4()), "creationTimestamp": f"{self.clock():%Y-%m-%dT%H:%M:%SZ}", "generation": 1}
        obj["metadata"] = {**({"namespace": namespace} if resource.namespaced else {}), **told, **obj["metadata"]}
        if keep:
            self.objects[resource][namespace if resource.namespaced else "", obj["metadata"]["name"]] = obj
            self._kinds[obj["metadata"]["uid"]] = resource
            self.note("ADDED", resource, obj)
        return obj

    def touch(self, obj: dict[str, Any]) -> None:
        """Say that an object changed."""
        self.note("MODIFIED", self._kinds[obj["metadata"]["uid"]], obj)

    def gone(self, resource: Resource, namespace: str, name: str) -> None:
        """Take this object away, and nothing else."""
        obj = self.objects[resource].pop((namespace if resource.namespaced else "", name))
        self.note("DELETED", resource, obj)

    def remove(self, resource: Resource, namespace: str, name: str, policy: str) -> bool:
        """Take an object away, with what it owns unless `policy` is Orphan; False if a finalizer keeps it for now."""
        obj = self.found(resource, namespace, name)
        if obj["metadata"].get("finalizers"):
            obj["metadata"].setdefault("deletionTimestamp", f"{self.clock():%Y-%m-%dT%H:%M:%SZ}")
            self.touch(obj)
            return False
        self.gone(resource, namespace, name)
        if policy != "Orphan":
            for owned_resource, owned in self._owned(obj["metadata"]["uid"]):
                self.remove(owned_resource, owned["metadata"]["namespace"], owned["metadata"]["name"], policy)
        return True

    def _owned(self, uid: str) -> list[tuple[Resource, dict[str, Any]]]:
        return [
            (resource, obj)
            for resource, objects in self.objects.items()
            for obj in objects.values()
            if any(owner["uid"] == uid for owner in obj["metadata"].get("ownerReferences", []))
        ]

    def log(self, pod: str, *lines: str, container: str = "", previous: bool = False, at: Any = None) -> None:
        """A container writes lines, now or at the time `at` (RFC 3339); the first container if none is named."""
        with self.changed:
            found = self.get("pods", pod)
            container = container or found["spec"]["containers"][0]["name"]
            time = datetime.fromisoformat(at) if isinstance(at, str) else at or self.clock()
            key = found["metadata"]["uid"], container, previous
            self.lines.setdefault(key, []).extend((time, line) for line in lines)
            self.changed.notify_all()

    def read_log(self, namespace: str, name: str, query: dict[str, str], follow: bool) -> Iterator[bytes]:
        """The lines that `GET pods/NAME/log` streams; raises `Refused` before the first."""
        pod = self.found(self.resource("pods"), namespace, name)
        if not pod["spec"].get("nodeName"):
            return iter(())  # nobody has it yet: the server answers with nothing
        container = _container(pod, query.get("container", ""))
        previous = query.get("previous", "").lower() == "true"
        key = pod["metadata"]["uid"], container, previous
        if previous and key not in self.lines:
            raise refused(400, f'previous terminated container "{container}" in pod "{name}" not found')
        state = next(told["state"] for told in pod["status"]["containerStatuses"] if told["name"] == container)
        if not previous and "waiting" in state:
            reason = state["waiting"]["reason"]
            raise refused(400, f'container "{container}" in pod "{name}" is waiting to start: {reason}')
        return self._read(key, query, pod if follow and not previous else None)

    def _read(
        self, key: tuple[str, str, bool], query: dict[str, str], follow: dict[str, Any] | None
    ) -> Iterator[bytes]:
        since = datetime.min.replace(tzinfo=UTC)
        if "sinceSeconds" in query:
            since = self.clock() - timedelta(seconds=int(query["sinceSeconds"]))
        if "sinceTime" in query:
            since = datetime.fromisoformat(query["sinceTime"])
        at = max(0, len(self.lines.get(key, [])) - int(query["tailLines"])) if "tailLines" in query else 0
        while True:
            with self.changed:
                lines = self.lines.get(key, [])[at:]
                if not lines and follow and not self.closed and self._still_runs(follow):
                    self.changed.wait()
                    continue
            if not lines:
                return
            at += len(lines)
            for time, line in lines:
                if time >= since:
                    stamp = f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}000Z " if _is_true(query, "timestamps") else ""
                    yield f"{stamp}{line}\n".encode()
            if follow is None:
                return

    def _still_runs(self, pod: dict[str, Any]) -> bool:
        metadata = pod["metadata"]
        now = self.objects[self.resource("pods")].get((metadata["namespace"], metadata["name"]))
        return now is pod and pod["status"]["phase"] not in ENDED


def _is_true(query: dict[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("true", "1")


def _container(pod: dict[str, Any], asked: str) -> str:
    names = [container["name"] for container in pod["spec"]["containers"]]
    name = pod["metadata"]["name"]
    if not asked and len(names) > 1:
        raise refused(400, f"a container name must be specified for pod {name}, choose one of: [{' '.join(names)}]")
    if asked and asked not in names:
        raise refused(400, f"container {asked} is not valid for pod {name}")
    return asked or str(names[0])
