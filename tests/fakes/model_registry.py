"""Kubeflow's Model Registry in memory: every request and answer is held against its OpenAPI document.

with FakeModelRegistry() as fake:
    fake.expect(Fault("fail", "POST", "/model_versions", answer=(503, {...})))
    ...
    fake.assert_all_faults_fired()
"""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from jsonschema import Draft202012Validator

from tests.fakes import faulty

API = "/api/model_registry/v1alpha3"
DOCUMENT = Path(__file__).parents[1] / "model_registry/openapi.json"
MODELS, VERSIONS, ARTIFACTS = "registered_models", "model_versions", "model_artifacts"
PARENT = {MODELS: "", VERSIONS: "registeredModelId", ARTIFACTS: ""}
NOT_FOUND = 404, {"code": "Not Found", "message": "not found"}
Answer = tuple[int, Any]
Object = dict[str, Any]


@dataclass
class Request:
    method: str
    url: str
    headers: Mapping[str, str]
    body: Any = None

    @property
    def path(self) -> str:
        return urlsplit(self.url).path.removeprefix(API)

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))


@dataclass
class Kept:
    """What is there, and what it belongs to."""

    kind: str
    parent: str
    about: Object = field(default_factory=dict)


class FakeModelRegistry(faulty.Faulty):
    """`kept` is all that was made; with a `token` others are turned away."""

    def __init__(self, token: str = "") -> None:
        super().__init__()
        self.kept: list[Kept] = []
        self._token = token
        self._ids, self._times = itertools.count(1), itertools.count(1_795_884_000_000)
        self._server = faulty.Server(self._answer, _Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        assert not self._server.errors, self._server.errors

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return [kept.about for kept in self.kept if kept.kind == kind]

    def _answer(self, request: Request) -> Answer | None:
        with self.changed:
            fault = self.noticed(request)
            if fault.kind == "drop":
                return None
            if fault.kind == "fail":
                return fault.answer  # type: ignore[no-any-return]
            if self._token and request.headers.get("Authorization") != f"Bearer {self._token}":
                return 401, {"code": "Unauthorized", "message": "no valid token"}
            answer = self._checked(request)
            return None if fault.kind == "commit_then_drop" else answer

    def _checked(self, request: Request) -> Answer:
        """The answer of the API, if both sides keep to the document."""
        operation = operation_of(request.method, request.path)
        if operation is None:
            return 404, "404 page not found"
        known = {name: about["schema"] for name, about in parameters_of(operation).items()}
        for name, value in request.query.items():
            assert name in known, f"{request.method} {request.path} has no parameter {name}"
            check(known[name], value)
        if "requestBody" in operation and (refused := refusal(schema_in(operation["requestBody"]), request.body)):
            return refused
        status, body = self._do(request)
        described = resolved(operation["responses"][str(status)])
        check(schema_in(described), body)
        return status, body

    def _do(self, request: Request) -> Answer:
        kind, number, inner = (*request.path.strip("/").split("/"), "", "")[:3]
        if request.method == "PATCH":
            return self._change(kind, number, request.body)
        if inner:  # the artifacts of a version
            if request.method == "POST":
                return self._make(ARTIFACTS, number, request.body)
            items = [kept.about for kept in self.kept if (kept.kind, kept.parent) == (ARTIFACTS, number)]
            return 200, {"items": items, "nextPageToken": "", "pageSize": 0, "size": len(items)}
        if request.method == "POST":
            return self._make(kind, request.body.get(PARENT[kind], ""), request.body)
        return self._find(f"{kind}s", request.query)

    def _find(self, kind: str, by: Mapping[str, str]) -> Answer:
        wanted = {name: value for name, value in by.items() if name != "parentResourceId"}
        for kept in self.kept:
            is_child = by.get("parentResourceId", kept.parent) == kept.parent
            if kept.kind == kind and is_child and wanted.items() <= kept.about.items():
                return 200, kept.about
        return NOT_FOUND

    def _make(self, kind: str, parent: str, body: Object) -> Answer:
        for kept in self.kept:
            is_same_name = (kept.parent, kept.about["name"]) == (parent, body["name"])
            is_same_id = "externalId" in body and kept.about.get("externalId") == body["externalId"]
            if kept.kind == kind and (is_same_name or is_same_id):
                return 409, {"code": "Conflict", "message": f"{kind} with name {body['name']} already exists: conflict"}
        now = str(next(self._times))
        state = {} if kind == ARTIFACTS else {"state": "LIVE"}
        times = {"createTimeSinceEpoch": now, "lastUpdateTimeSinceEpoch": now}
        about = {"customProperties": {}, **state, **body, **times, "id": str(next(self._ids))}
        self.kept.append(Kept(kind, parent, about))
        return 201, about

    def _change(self, kind: str, number: str, body: Object) -> Answer:
        for kept in self.kept:
            if (kept.kind, kept.about["id"]) == (kind, number):
                kept.about.update(body, lastUpdateTimeSinceEpoch=str(next(self._times)))
                return 200, kept.about
        return NOT_FOUND


@cache
def document() -> Any:
    return json.loads(DOCUMENT.read_text())


def operation_of(method: str, path: str) -> Any:
    """What the document says of a request; None if there is no such path or method."""
    for template, item in document()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", r"[1-9]\\d{0,8}", template), API + path):
            operation = item.get(method.lower())
            return operation and {"parameters": [], **operation, "shared": item.get("parameters", [])}
    return None


def parameters_of(operation: Any) -> dict[str, Any]:
    """Those of the query, by name."""
    found = map(resolved, [*operation["parameters"], *operation["shared"]])
    return {parameter["name"]: parameter for parameter in found if parameter["in"] == "query"}


def resolved(node: Any) -> Any:
    if "$ref" not in node:
        return node
    _, _, kind, name = node["$ref"].split("/")
    return resolved(document()["components"][kind][name])


def schema_in(described: Any) -> Any:
    return described["content"]["application/json"]["schema"]


def check(schema: Any, value: Any) -> None:
    Draft202012Validator({**schema, "components": document()["components"]}).validate(value)


def refusal(schema: Any, body: Any) -> Answer | None:
    """What the service answers to a body that is not as the document says."""
    if unknown := sorted(body.keys() - named(schema, lambda each: each.get("properties", {}))):
        return 400, {"code": "Bad Request", "message": f'json: unknown field "{unknown[0]}"'}
    if missing := sorted(named(schema, lambda each: each.get("required", [])) - body.keys()):
        return 422, {"code": "Bad Request", "message": f"required field '{missing[0]}' is zero value."}
    check(schema, body)
    return None


def named(schema: Any, of: Callable[[Any], Any]) -> set[str]:
    """What the schema and those that it is made of name."""
    whole = resolved(schema)
    return set(of(whole)).union(*(named(part, of) for part in whole.get("allOf", [])))


class _Handler(faulty.Handler):
    def do_GET(self) -> None:
        data = self.received()
        body = json.loads(data) if data else None
        answer = self.server.answer(Request(self.command, self.path, self.headers, body))
        if answer is None:
            self.break_off()
        else:
            status, body, *headers = answer
            self.send(body, status, headers[0] if headers else {})

    do_POST = do_PATCH = do_GET
