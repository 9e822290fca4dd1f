"""How large a pipeline is, and what its tasks are given: both end in objects of the cluster that hold only so much."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.lint.compiled import Compiled, Task, constant

MOST_BYTES = 100_000  # of a workflow object
MOST_GIVEN = 100_000  # bytes, of all inputs of a task: the arguments of its pod hold 128 KiB, other things among them


def given(compiled: Compiled, values: Mapping[str, Any] | None = None) -> Iterator[str]:
    """All inputs of a task together, and those of the run; `values` are the inputs of a run, defaults stand for others.

    What earlier tasks hand on is not known before they have run, and is not counted.
    """
    defaults = {name: told.get("defaultValue") for name, told in compiled.root.takes().items()}
    known = {**defaults, **(values or {})}
    if (found := sum(map(_bytes, known.values()))) > MOST_GIVEN:
        yield _said("the inputs of the run", found)
        return  # and so are those of its tasks
    for task in compiled.tasks:
        found = sum(_bytes(_value(task, source, known)) for source in task.parameters.values())
        if found > MOST_GIVEN:
            yield _said(f"{task.path}: its inputs", found)


def _value(task: Task, source: Mapping[str, Any], known: Mapping[str, Any]) -> Any:
    """What is known of it; of the items of a loop the largest."""
    asker, origin = task.origin(source)
    name = origin.get("componentInputParameter", "")
    group = asker.parent
    if group is None or "componentInputParameter" not in origin:
        return constant(origin)
    iterator = group.body.get("parameterIterator", {})
    if name != iterator.get("itemInput"):
        return known.get(name)
    raw = iterator.get("items", {}).get("raw")
    if raw is not None:
        items = json.loads(raw)
    else:
        items = _value(group, group.parameters.get(iterator["items"].get("inputParameter", ""), {}), known)
    return max(items, key=_bytes, default=None) if isinstance(items, list) else None


def _bytes(value: Any) -> int:
    return 0 if value is None else len(value.encode()) if isinstance(value, str) else len(json.dumps(value).encode())


def _said(what: str, found: int) -> str:
    return (
        f"{what} are {found:,} bytes; a pod's arguments hold {MOST_GIVEN:,} safely: write them to a file in the store "
        "and hand on its name"
    )
