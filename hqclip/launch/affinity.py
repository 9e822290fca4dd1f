"""Affinity to nodes in the words of Kubernetes, as JSON in, the object and what is wrong with it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hqclip.launch.patches import Json
from hqclip.settings import did_you_mean
from hqclip.strict_json import read_json

REQUIRED, PREFERRED = (f"{word}DuringSchedulingIgnoredDuringExecution" for word in ("required", "preferred"))
OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
SCHEMA: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        REQUIRED: {
            "type": "object",
            "additionalProperties": False,
            "required": ["nodeSelectorTerms"],
            "properties": {
                "nodeSelectorTerms": {"type": "array", "minItems": 1, "items": {"$ref": "#/definitions/nodes"}}
            },
        },
        PREFERRED: {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["weight", "preference"],
                "properties": {
                    "weight": {"type": "integer", "minimum": 1, "maximum": 100},
                    "preference": {"$ref": "#/definitions/nodes"},
                },
            },
        },
    },
}
NODES: Json = {  # `#/definitions/nodes`: one term, all of whose expressions hold
    "type": "object",
    "additionalProperties": False,
    "required": ["matchExpressions"],
    "properties": {
        "matchExpressions": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["key", "operator"],
                "properties": {
                    "key": {"type": "string"},
                    "operator": {"enum": list(OPERATORS)},
                    "values": {"type": "array", "items": {"type": "string"}},
                },
            },
        }
    },
}


_KINDS = {
    "object": (dict, "a mapping"),
    "array": (list, "a list"),
    "string": (str, "text"),
    "integer": (int, "a whole number"),
}


def read_affinity(text: str) -> tuple[Json, list[str]]:
    """The nodeAffinity of a JSON object, {} for none, and what is wrong with it."""
    try:
        given = read_json(text or "{}")
    except ValueError as error:
        return {}, [f"node_affinity {error}"]
    problems = list(_wrong(given, SCHEMA, "node_affinity"))
    return ({} if problems else given), problems


def _wrong(given: Any, schema: Json, where: str) -> Iterator[str]:
    """As a validator of the schema above says it; hqclip does without one."""
    schema = NODES if "$ref" in schema else schema
    if "enum" in schema:
        if given not in schema["enum"]:
            yield f"{where} is {given!r}; give {', '.join(schema['enum'])}"
        return
    kind, words = _KINDS[schema["type"]]
    if not isinstance(given, kind) or isinstance(given, bool):
        yield f"{where} is {given!r}; give {words}"
    elif isinstance(given, dict):
        yield from _wrong_object(given, schema, where)
    elif isinstance(given, list):
        yield from (f"{where} is empty" for _ in range(len(given), schema.get("minItems", 0)))
        for number, item in enumerate(given):
            yield from _wrong(item, schema["items"], f"{where}[{number}]")
    elif isinstance(given, int) and not schema["minimum"] <= given <= schema["maximum"]:
        yield f"{where} is {given}; give {schema['minimum']} to {schema['maximum']}"


def _wrong_object(given: Json, schema: Json, where: str) -> Iterator[str]:
    known = schema["properties"]
    yield from (f"{where} has no {name}{did_you_mean(name, known)}" for name in given if name not in known)
    yield from (f"{where}.{name} is missing" for name in schema.get("required", ()) if name not in given)
    for name in known:
        if name in given:
            yield from _wrong(given[name], known[name], f"{where}.{name}")
    if "operator" in given:
        yield from _wrong_values(given, where)


def _wrong_values(expression: Json, where: str) -> Iterator[str]:
    """A pod with the wrong number of them is refused when it is made, and Kubeflow would try without end."""
    operator, values = expression["operator"], expression.get("values", [])
    if operator in ("In", "NotIn") and not values:
        yield f"{where}.values is missing: {operator} compares with them"
    elif operator in ("Exists", "DoesNotExist") and values:
        yield f"{where}.values: {operator} takes none"
    elif operator in ("Gt", "Lt") and not (len(values) == 1 and str(values[0]).lstrip("-").isdecimal()):
        yield f"{where}.values: {operator} takes one whole number, as text"
