"""A custom resource in, what its definition has against it out; stricter than the API server, which drops unknown keys.

`crds/` has the definitions, see the NOTICE there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators

FILES = {
    "Job": "volcano-job.json",
    "JobSet": "jobset.json",
    "PodGroup": "volcano-podgroup.json",
    "Queue": "volcano-queue.json",
}
STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
OWNER = {
    "type": "object",
    "required": ["apiVersion", "kind", "name", "uid"],
    "additionalProperties": False,
    "properties": {
        **{key: {"type": "string", "minLength": 1} for key in ("apiVersion", "kind", "name", "uid")},
        **{key: {"type": "boolean"} for key in ("controller", "blockOwnerDeletion")},
    },
}
METADATA = {  # of the object itself: the definitions leave it to the API server
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **{key: {"type": "string"} for key in ("name", "generateName", "namespace", "uid", "resourceVersion")},
        **{key: {"type": "string"} for key in ("creationTimestamp", "deletionTimestamp", "selfLink")},
        "generation": {"type": "integer"},
        "deletionGracePeriodSeconds": {"type": "integer"},
        "labels": STRINGS,
        "annotations": STRINGS,
        "finalizers": {"type": "array", "items": {"type": "string"}},
        "ownerReferences": {"type": "array", "items": OWNER},
        "managedFields": {"type": "array"},
    },
}
INT_RANGES = {"int32": 2**31, "int64": 2**63}


def check(kind: str, obj: Any) -> list[str]:
    """What is wrong with a Job (Volcano's), JobSet, PodGroup or Queue, as `path: message`; empty if nothing is."""
    return [f"{error.json_path.removeprefix('$.')}: {error.message}" for error in errors(kind, obj)]


def errors(kind: str, obj: Any) -> list[ValidationError]:
    """The same as the validator says it, in the order of the object."""
    return sorted(_validator(kind).iter_errors(obj), key=lambda error: [str(part) for part in error.absolute_path])


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """An openAPIV3Schema as a JSON Schema that refuses keys it does not name."""
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"], **{key: schema[key] for key in ("pattern", "default") if key in schema}}
    result = {key: value for key, value in schema.items() if key != "format"}
    if "properties" in schema:
        result["properties"] = {key: strict(value) for key, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            result.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = strict(schema[key])
    if schema.get("x-kubernetes-list-type") == "set":
        result["uniqueItems"] = True
    if schema.get("format") in INT_RANGES:
        end = INT_RANGES[schema["format"]]
        result = {"minimum": -end, "maximum": end - 1, **result}
    return result


@functools.cache
def _validator(kind: str) -> Any:
    told = json.loads((Path(__file__).parent / "crds" / FILES[kind]).read_text())
    schema = strict(told["openAPIV3Schema"])
    schema["properties"]["metadata"] = METADATA
    schema["properties"]["apiVersion"] = {"const": f"{told['group']}/{told['version']}"}
    schema["properties"]["kind"] = {"const": told["kind"]}
    schema["required"] = ["apiVersion", "kind", "metadata", *schema.get("required", [])]
    return _Strict(schema)


def _one_of_a_key(_: Any, keys: list[str], items: Any, schema: dict[str, Any]) -> Iterator[ValidationError]:
    """x-kubernetes-list-map-keys: no two items of a list may have the same key."""
    seen = set()
    about = schema["items"]["properties"]
    for number, item in enumerate(items if isinstance(items, list) else []):
        key = tuple(str(item.get(name, about[name].get("default"))) for name in keys) if isinstance(item, dict) else ()
        if key in seen:
            yield ValidationError(f"Duplicate value: {dict(zip(keys, key, strict=True))}", path=[number])
        seen.add(key)


_Strict = validators.extend(Draft202012Validator, {"x-kubernetes-list-map-keys": _one_of_a_key})
