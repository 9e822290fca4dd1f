"""Inputs that were given in, those out that variables and the project file give beside them.

An input stands for a setting of its pipeline's first task, so what holds for `hqclip plan` here holds for the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hqclip import cli, project
from hqclip.project import Project
from hqclip.stages import STAGES
from pipelines.client.inputs import Definitions, meaning, typed
from pipelines.client.versions import known_pipeline
from pipelines.inputs import INPUTS

WORLD = ("store", "suite", "shards")  # a demo brings its own


def read_project() -> Project:
    """The project here. Raises what `hqclip.project.load` raises."""
    return project.load(cli.sections())


def shared(name: str) -> str:
    """What all commands share, such as `store`, as a variable or the project file says it; empty if neither does."""
    found = read_project().find("", name)
    return str(found.value) if found else ""


def with_project(name: str, known: Definitions, inputs: Mapping[str, Any], *, demo: bool = False) -> dict[str, Any]:
    """`inputs` of a pipeline, by its own name or that in Kubeflow, over what the project says. Raises `ConfigError`."""
    pipeline = next((one for one in INPUTS if name in (one, known_pipeline(one))), "")
    if not pipeline:
        return dict(inputs)
    asked = INPUTS[pipeline]
    given = {setting: inputs[name] for name, setting in asked.settings.items() if name in inputs}
    found = read_project().under(asked.stage, STAGES[asked.stage].settings, {**asked.fixed, **given})
    if demo:
        found = {name: value for name, value in found.items() if name in given or name not in WORLD}
    values = {name: found[setting] for name, setting in asked.settings.items() if setting in found and name in known}
    beside = {name: _input(name, known, value) for name, value in values.items() if value != inputs.get(name)}
    return {**inputs, **beside}


def _input(name: str, known: Definitions, value: Any) -> Any:
    """A setting as the type of its input asks: tuples have commas there, and seeds are text."""
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return typed(name, known[name], text, meaning(text))
