"""What one task hands to another, as the driver of the task that takes it reads it.

Types are those of the backend's driver (`backend/src/v2/driver/resolve.go` of 2.17), which is laxer than the SDK with
texts and numbers, and knows what the SDK does not: an item of a list that does not say what it holds is a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pipelines.lint.compiled import Compiled, Source, Task, constant

_PLACEHOLDER = re.compile(r"\{\{\$[^}]*\}\}|\{\{channel:[^}]*\}\}")
_NUMBERS = ("NUMBER_INTEGER", "NUMBER_DOUBLE")
_KINDS = {
    bool: "BOOLEAN",
    int: "NUMBER_INTEGER",
    float: "NUMBER_DOUBLE",
    str: "STRING",
    list: "LIST",
    dict: "STRUCT",
}
_TOLD = ("TASK_FINAL_STATUS", "TASK_CONFIG")  # mappings that Kubeflow itself gives


def types(compiled: Compiled) -> Iterator[str]:
    """A parameter has the type that the input asks for."""
    for task in compiled.tasks:
        for key, source in task.parameters.items():
            given, asked = given_type(task, source), str(task.takes().get(key, {}).get("parameterType", ""))
            if given and asked and not _fits(given, asked):
                item = source.get("componentInputParameter", "").endswith("-loop-item")
                hint = "; let what the loop runs over say what its items are, as List[Dict[str, Any]] does"
                yield (
                    f"{task.path}: {key} takes {asked} and is given {given}, which a cluster refuses"
                    f"{hint if item and given == 'STRING' else ''}"
                )


def artifacts(compiled: Compiled) -> Iterator[str]:
    """An artifact goes to one input of a task: events of the metadata store are unique by artifact and task."""
    for task in compiled.tasks:
        if not task.is_group:
            sources = (task.origin(source, "artifacts") for source in task.artifacts.values())
            handed = [(asker.parent, json.dumps(source, sort_keys=True)) for asker, source in sources]
            twice = [key for key, one in zip(task.artifacts, handed, strict=True) if _times(one, handed) > 1]
            if twice:
                names = ", ".join(twice)
                yield f"{task.path} is given one artifact twice ({names}), which a cluster refuses; give it a copy"


def threads(compiled: Compiled) -> Iterator[str]:
    """What a task takes of its group, the group has: settings of pods are not handed on by the SDK."""
    for task in compiled.tasks:
        group = task.parent
        for source in task.parameters.values() if group is not None else ():
            name = source.get("componentInputParameter")
            if group is not None and name and name not in group.takes():
                plain = name.removeprefix("pipelinechannel--")
                yield (
                    f"{task.path} takes {plain} for its pod, but {group.path} is not given it, which a cluster "
                    "refuses; give it to the task as an ordinary input, too"
                )


def placeholders(compiled: Compiled) -> Iterator[str]:
    """Placeholders are put in only where they are the whole of a value."""
    for task in compiled.tasks:
        for key, source in task.parameters.items():
            value = constant(source)
            if isinstance(value, str) and _PLACEHOLDER.search(value) and not _PLACEHOLDER.fullmatch(value):
                yield f"{task.path}: {key} joins text and a placeholder, which a cluster leaves alone: {value}"


def given_type(task: Task, source: Source) -> str:
    """The type of what a task is given, "" where nobody can tell."""
    if source.get("parameterExpressionSelector") or task.parent is None:
        return ""
    if "componentInputParameter" in source:
        return str(task.parent.takes().get(source["componentInputParameter"], {}).get("parameterType", ""))
    if "taskOutputParameter" in source:
        output = source["taskOutputParameter"]
        producer = task.parent.children.get(output.get("producerTask", ""))
        told = producer.component.get("outputDefinitions", {}).get("parameters", {}) if producer else {}
        return str(told.get(output.get("outputParameterKey", ""), {}).get("parameterType", ""))
    return _kind(constant(source))


def _fits(given: str, asked: str) -> bool:
    """Whether the driver takes it: everything can be a text, and a number is a number."""
    same = given == asked or (given in _NUMBERS and asked in _NUMBERS)
    return same or asked == "STRING" or (given == "STRUCT" and asked in _TOLD)


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "")


def _times(one: tuple[Task | None, str], handed: list[tuple[Task | None, str]]) -> int:
    return sum(other[0] is one[0] and other[1] == one[1] for other in handed)
