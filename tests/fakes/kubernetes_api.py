"""What a Kubernetes API server is asked and how it refuses: resources, requests, selectors, rules, Status bodies."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[^/]+))?)?"
)
TERM = re.compile(r"\s*(!?)([\w./-]+)\s*(?:(==|=|!=)\s*([\w.-]*)|\s(in|notin)\s*\(([^)]*)\))?\s*(?:,|$)")
VERBS = {"POST": "create", "GET": "get", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
REASONS = {
    400: ("BadRequest", "the server rejected our request for an unknown reason"),
    401: ("Unauthorized", "Unauthorized"),
    403: ("Forbidden", "forbidden"),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    409: ("Conflict", "the server reported a conflict"),
    410: ("Expired", "The provided continue parameter is too old"),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: told to fail"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted"),
}


@dataclass(frozen=True)
class Resource:
    """A kind of object; `group` is empty for the core."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    older: tuple[str, ...] = ()  # versions that are served, too, and deprecated

    @property
    def full(self) -> str:
        """As messages name it: jobs.batch.volcano.sh, pods."""
        return f"{self.plural}.{self.group}".rstrip(".")

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}".lstrip("/")

    @property
    def custom(self) -> bool:
        """Whether it comes with a CustomResourceDefinition."""
        return self.group not in ("", "batch")


RESOURCES = (  # where a plural is in here twice, the short name means the first
    Resource("batch.volcano.sh", "v1alpha1", "jobs", "Job"),
    Resource("scheduling.volcano.sh", "v1beta1", "podgroups", "PodGroup"),
    Resource("scheduling.volcano.sh", "v1beta1", "queues", "Queue", namespaced=False),
    Resource("topology.volcano.sh", "v1alpha1", "hypernodes", "HyperNode", namespaced=False),
    Resource("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet"),
    Resource("kueue.x-k8s.io", "v1beta2", "localqueues", "LocalQueue", older=("v1beta1",)),
    Resource("kueue.x-k8s.io", "v1beta2", "workloads", "Workload", older=("v1beta1",)),
    Resource("argoproj.io", "v1alpha1", "workflows", "Workflow"),
    Resource("batch", "v1", "jobs", "Job"),
    Resource("", "v1", "pods", "Pod"),
    Resource("", "v1", "events", "Event"),
    Resource("", "v1", "namespaces", "Namespace", namespaced=False),
)


@dataclass
class Request:
    """A request as it came, and what Kubernetes calls it."""

    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any]
    content_type: str
    url: str = ""  # path and query as sent
    accept: str = ""
    group: str = ""
    version: str = ""
    namespace: str = ""
    plural: str = ""
    name: str = ""
    sub: str = ""
    verb: str = ""

    def __post_init__(self) -> None:
        if match := PATH.fullmatch(self.path):
            for key, value in match.groupdict().items():
                setattr(self, key, value or "")
            self.verb = VERBS.get(self.method, self.method.lower())
            if self.verb == "get" and not self.name:
                self.verb = "watch" if self.flag("watch") else "list"
            elif self.verb == "delete" and not self.name:
                self.verb = "deletecollection"

    @property
    def used(self) -> tuple[str, str, str, str]:
        """Verb, group, resource[/subresource], namespace."""
        return self.verb, self.group, f"{self.plural}/{self.sub}".rstrip("/"), self.namespace

    def flag(self, name: str) -> bool:
        """A boolean of the query, however the client spells it."""
        return self.query.get(name, "").lower() in ("true", "1")


class Refused(Exception):
    """The request is answered with an error; `args[0]` is the Status, or the text of a page."""

    def __init__(self, body: dict[str, Any] | str, code: int) -> None:
        super().__init__(body)
        self.body, self.code = body, code


@dataclass
class Answer:
    """What goes back: `lines` is streamed as it comes; `cut` closes the connection after so many lines."""

    body: dict[str, Any] | str = ""
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    lines: Any = None
    cut: int | None = None


def status(code: int, message: str = "", reason: str | None = None, **details: Any) -> dict[str, Any]:
    """The body of a refusal."""
    usual_reason, usual_message = REASONS.get(code, ("", "told to fail"))
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message or usual_message,
        "reason": usual_reason if reason is None else reason,
        "details": details,
        "code": code,
    }


def refused(code: int, message: str = "", reason: str | None = None, **details: Any) -> Refused:
    return Refused(status(code, message, reason, **details), code)


def missing(resource: Resource, name: str) -> Refused:
    message = f'{resource.full} "{name}" not found'
    return refused(404, message, name=name, group=resource.group, kind=resource.plural)


def not_served(group: str) -> Refused:
    """For core groups a Status, for a group that nobody registered the text of the multiplexer."""
    return refused(404) if group in ("", "batch") else Refused("404 page not found\n", 404)


def forbidden(user: str, request: Request) -> Refused:
    """What the authorizer says of a request that no rule covers."""
    _, group, resource, namespace = request.used
    what = f"{request.plural}.{group}".rstrip(".") + (f' "{request.name}"' if request.name else "")
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    message = f'User "{user}" cannot {request.verb} resource "{resource}" in API group "{group}" {where}'
    return refused(403, f"{what} is forbidden: {message}", name=request.name, group=group, kind=request.plural)


def allows(rule: dict[str, Any], request: Request) -> bool:
    """Whether a rule of a Role covers a request."""
    verb, group, resource, _ = request.used
    wanted = {"*", resource, f"*/{request.sub}" if request.sub else "*"}
    return bool(
        {"*", verb} & set(rule["verbs"])
        and {"*", group} & set(rule["apiGroups"])
        and wanted & set(rule["resources"])
        and (not rule.get("resourceNames") or request.name in rule["resourceNames"])
    )


def selected(selector: str, labels: dict[str, str]) -> bool:
    """Whether labels fit `a=b,c!=d,e in (f,g),h notin (i),j,!k`."""
    at = 0
    while at < len(selector):
        term = TERM.match(selector, at)
        if term is None or term.end() == at:
            raise refused(400, f"unable to parse requirement: found '{selector[at:]}'")
        at = term.end()
        absent, key, sign, value, word, values = term.groups()
        label = labels.get(key)
        if sign:
            fits = (label == value) is (sign != "!=")
        elif word:
            fits = (label in [value.strip() for value in values.split(",")]) is (word == "in")
        else:
            fits = (label is None) is bool(absent)
        if not fits:
            return False
    return True


def field_selected(selector: str, resource: Resource, obj: dict[str, Any]) -> bool:
    """Whether an object has the fields `a.b=c,d!=e`; each kind knows but a few."""
    known = {"metadata.name", "metadata.namespace"}
    known |= {
        "Event": {f"involvedObject.{key}" for key in ("kind", "name", "namespace", "uid")} | {"reason", "type"},
        "Pod": {"status.phase", "spec.nodeName", "spec.restartPolicy"},
    }.get(resource.kind, set())
    for term in filter(None, selector.split(",")):
        key, sign, value = re.split(r"(!=|==|=)", term, maxsplit=1)
        if key not in known:
            raise refused(400, f"field label not supported: {key}")
        found: Any = obj
        for part in key.split("."):
            found = found.get(part, "")
        if (str(found) == value) is (sign == "!="):
            return False
    return True
