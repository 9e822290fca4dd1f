"""What Kubeflow Pipelines' API is asked and how it refuses; requests and answers are held against its own description.

`tests/specs/kfp-v2beta1.json` is that description, see the NOTICE there.
"""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SPEC = Path(__file__).parents[1] / "specs" / "kfp-v2beta1.json"
PREFIX = "/apis/v2beta1"
TIME = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"
GRPC = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}
UPLOADS = ("UploadPipeline", "UploadPipelineVersion")  # plain HTTP: they refuse in words of their own
MESSAGES = {
    401: "Unauthenticated: Request header error: there is no user identity header.",
    403: "PermissionDenied: Unauthorized access: User 'ada@example.org' is not authorized with reason:  "
    "(request: &ResourceAttributes{Namespace:team,Verb:create,Group:pipelines.kubeflow.org,Resource:runs,})",
    500: "InternalServerError: Failed to list: Error 1040: Too many connections",
    503: "upstream connect error or disconnect/reset before headers. reset reason: connection timeout",
}


@dataclass
class Request:
    """`operation` is the description's name for it; `upload` holds the bytes of an uploaded file."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any = None
    upload: bytes = b""
    operation: str = ""
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Path and query, as patterns of faults see them."""
        return self.path + "".join(f"{'&' if n else '?'}{k}={v}" for n, (k, v) in enumerate(self.query.items()))


@dataclass
class Answer:
    """A string is sent as it is, everything else as JSON."""

    body: Any = field(default_factory=dict)
    code: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """The answer is a refusal."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def refusal(code: int, message: str = "", *, upload: bool = False) -> Answer:
    """As the server says no: a status of gRPC, or the upload server's two fields."""
    said = message or MESSAGES.get(code, f"refused with {code}")
    if upload:
        return Answer({"error_message": said.partition(": ")[2] or said, "error_details": said}, code)
    number = GRPC.get(code, 2)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": number, "message": said}
    return Answer({"code": number, "message": said, "details": [detail]}, code)


def route(request: Request) -> list[str]:
    """Fill in operation and arguments; what the description has against the request. Raises `Refused` if unknown."""
    known = _paths()
    for template, pattern, methods in known:
        match = pattern.fullmatch(request.path)
        if match and request.method.lower() in methods:
            told = methods[request.method.lower()]
            names = re.findall(r"\{([^}]+)\}", template)
            request.operation = told["operationId"]
            request.arguments = dict(zip(names, match.groups(), strict=True))
            return _query_faults(request, told) + _body_faults(request, told)
    if any(pattern.fullmatch(request.path) for _, pattern, _ in known):
        raise Refused(501, "Method Not Allowed")
    raise Refused(404, "Not Found")


def answer_faults(request: Request, answer: Answer) -> list[str]:
    """What the description has against an answer."""
    if answer.code >= 400 and request.operation in UPLOADS:
        return []
    if answer.code >= 400:
        schema: dict[str, Any] = {"$ref": "#/definitions/googleRpcStatus"}
    else:
        schema = _operations()[request.operation]["response"]
    return _faults(schema, answer.body, strict_numbers=True)


def _query_faults(request: Request, told: dict[str, Any]) -> list[str]:
    known = {p["name"]: p for p in told["parameters"] if p["in"] == "query"}
    faults = [f"{name} is no parameter of {request.operation}" for name in request.query if name not in known]
    for name, value in request.query.items():
        if known.get(name, {}).get("type") == "integer" and not re.fullmatch(r"-?\d+", value):
            faults.append(f"{name} is {value!r}, no integer")
    return faults


def _body_faults(request: Request, told: dict[str, Any]) -> list[str]:
    wanted = next((p for p in told["parameters"] if p["in"] == "body"), None)
    if wanted is None:
        missing = any(p["in"] == "formData" for p in told["parameters"]) and not request.upload
        return ["there is no file"] if missing else []
    return _faults(wanted["schema"], request.body, strict_numbers=False)


def _faults(schema: dict[str, Any], value: Any, *, strict_numbers: bool) -> list[str]:
    whole = {**schema, "definitions": _definitions(strict_numbers)}
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(whole).iter_errors(value)]


@functools.cache
def _spec() -> dict[str, Any]:
    return dict(json.loads(SPEC.read_bytes()))


@functools.cache
def _operations() -> dict[str, dict[str, Any]]:
    return {told["operationId"]: told for methods in _spec()["paths"].values() for told in methods.values()}


@functools.cache
def _paths() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    """The more a path says by itself, the earlier it is tried."""
    found = []
    for template, methods in _spec()["paths"].items():
        parts = re.split(r"\{[^}]+\}", template)
        found.append((template, re.compile("([^/:]+)".join(map(re.escape, parts))), methods))
    return sorted(found, key=lambda entry: (entry[0].count("{"), -len(entry[0])))


@functools.cache
def _definitions(strict_numbers: bool) -> dict[str, Any]:
    return {name: _strict(schema, strict_numbers) for name, schema in _spec()["definitions"].items()}


def _strict(schema: Any, strict_numbers: bool) -> Any:
    """Unknown fields are faults; int64 is text on the way out, and may be a number on the way in."""
    if not isinstance(schema, dict):
        return schema
    found = {key: value for key, value in schema.items() if key not in ("format", "readOnly", "properties")}
    for key in ("items", "additionalProperties"):
        if key in found:
            found[key] = _strict(found[key], strict_numbers)
    if "properties" in schema:
        found["properties"] = {name: _strict(part, strict_numbers) for name, part in schema["properties"].items()}
        if schema["properties"]:
            found.setdefault("additionalProperties", False)
    if schema.get("format") == "int64":
        found["type"] = "string" if strict_numbers else ["string", "integer"]
    if schema.get("format") == "date-time":
        found["pattern"] = TIME
    return found
