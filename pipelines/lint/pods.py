"""Resources and environment of pods that are inputs of the pipeline: what a cluster puts in, and what it drops."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.lint.compiled import Compiled, Task
from pipelines.lint.edges import given_type

_INPUT = re.compile(r"\{\{\$\.inputs\.parameters\[['\"]([^'\"]+)['\"]\]\}\}")
_UNRESOLVED = re.compile(r"\{\{(channel:|\$)")


def resources(compiled: Compiled) -> Iterator[str]:
    """Only texts are put in: a number is dropped without a word, and the pod has no GPU."""
    for task in compiled.tasks:
        for setting, value in _settings(compiled.container(task).get("resources", {})):
            named = _INPUT.fullmatch(value)
            kind = _type_of(task, named[1]) if named else ""
            if named and named[1] not in task.parameters:
                yield f"{task.path}: {setting} is {named[1]}, which the task is not given"
            elif named and kind not in ("", "STRING"):
                yield (
                    f"{task.path}: {setting} is an input of type {kind}, which a cluster drops without a word: make "
                    "it a text"
                )
            elif not named and _UNRESOLVED.search(value):
                yield f"{task.path}: {setting} joins text and an input, which a cluster leaves alone: {value}"


def environment(compiled: Compiled) -> Iterator[str]:
    """Nothing is put into it."""
    for name, container in compiled.containers:
        for variable in container.get("env", ()):
            if _UNRESOLVED.search(str(variable.get("value", ""))):
                yield (
                    f"{name}: environment variable {variable.get('name')} is made of an input, which a cluster leaves "
                    "alone: hand it on as an input of the task"
                )


def _settings(resources: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in {**resources, **resources.get("accelerator", {})}.items():
        if isinstance(value, str):
            yield name, value


def _type_of(task: Task, name: str) -> str:
    """The type of an input, at the place that it comes from."""
    if name not in task.parameters:
        return ""
    return given_type(*task.origin(task.parameters[name]))
