"""`python -m pipelines platform`: the JSON schema of platform files, by which editors complete, explain and underline.

It is made of the same declarations by which the files are read; manifests/platforms/platform.schema.json is this.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Any, get_type_hints

from hqclip.launch.affinity import NODES, SCHEMA
from hqclip.launch.layers import PAIRS
from hqclip.launch.plain import QUANTITIES
from hqclip.launch.platform import OF_RUNS, OF_STAGES, SHARED, TASKS
from hqclip.launch.spec import LaunchSpec
from pipelines.hardware import REQUESTS

Json = dict[str, Any]
WORDS = {  # what a platform says of a setting otherwise than a launch
    "timeout_s": "seconds after which the pod of a task is ended, pulling and waiting counted; of a stage that is "
    "launched, seconds its job may run in all",
    "shm": "size of /dev/shm, counted in memory; without it a task has 64 MiB",
    "user": "numeric user and group of the pods, never 0",
    "gpu_resource": "what the cluster calls a GPU, for the stages that ask for one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It has none."""


def run(given: argparse.Namespace) -> int:  # noqa: ARG001 - verbs are called alike
    """Print the schema."""
    print(as_text(), end="")
    return 0


def as_text() -> str:
    """The file."""
    return json.dumps(schema(), indent=2) + "\n"


def schema() -> Json:
    """What a platform file may say."""
    settings = {name: setting(name) for name in SHARED}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Platform of hqclip",
        "description": "What the pods of tasks and of launched stages carry: for all at the top, for a stage in its "
        "section. See docs/platform.md",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            **{name: {"type": "string", "description": about} for name, about in OF_RUNS.items()},
            "requests": {"enum": list(REQUESTS), "description": OF_RUNS["requests"]},
            **{name: told for name, told in settings.items() if name not in OF_STAGES},
            **{stage: {"$ref": "#/definitions/section"} for stage in TASKS},
        },
        "definitions": {
            "section": {
                "description": "settings of one stage, over those for all",
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": settings,
            },
            "nodes": NODES,
        },
    }


def setting(name: str) -> Json:
    """What one may be, with its help."""
    field = next(field for field in dataclasses.fields(LaunchSpec) if field.name == SHARED[name])
    return {"description": WORDS.get(name, field.metadata["help"]), **_values(name, field)}


def _values(name: str, field: dataclasses.Field[Any]) -> Json:
    if name == "node_affinity":
        return SCHEMA
    if name == "timeout_s":
        return {"type": "integer", "minimum": 1, "maximum": field.metadata["maximum"]}
    if name in QUANTITIES:
        return {"type": ["string", "number"]}
    if field.metadata["choices"]:
        return {"enum": list(field.metadata["choices"])}
    hint = get_type_hints(LaunchSpec)[field.name]
    if hint is str:
        return {"type": "string"}
    if hint is int:
        bounds = {word: field.metadata[word] for word in ("minimum", "maximum")}
        return {"type": "integer", **{word: bound for word, bound in bounds.items() if bound is not None}}
    items = {"type": "array", "items": {"type": "string"}}
    values = {"type": ["string", "number", "boolean", "null"]}
    return {"anyOf": [{"type": "object", "additionalProperties": values}, items]} if name in PAIRS else items
