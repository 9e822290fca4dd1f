"""Loops, what comes after them, and tasks that run however others ended.

An ignored failure is a hook on the task before it (`backend/src/v2/compiler/argocompiler/dag.go` of 2.17): a loop has
none, a task has one, and nothing can wait for a hook.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from pipelines.lint.compiled import Compiled, Task, constant

_ITEM = "-loop-item"


def ignored(compiled: Compiled) -> Iterator[str]:
    """A task that ignores failures before it runs in every case."""
    for task in compiled.tasks:
        for loop in (one for one in task.before if task.ignores_failure and one.is_loop):
            yield (
                f"{task.path} ignores failures of the loop {loop.name}, after which a cluster never runs it: let the "
                "items write how they ended, and fail none"
            )
        for other in (one for one in task.before if one.ignores_failure):
            yield f"{task.path} waits for {other.name}, which ignores failures: for a cluster there is no such task"
    for group in (compiled.root, *(task for task in compiled.tasks if task.is_group)):
        hooked = Counter(one.name for task in group.children.values() if task.ignores_failure for one in task.before)
        for name in (name for name, times in hooked.items() if times > 1):
            yield f"{name}: {hooked[name]} tasks ignore its failure, of which a cluster runs one"


def reducers(compiled: Compiled) -> Iterator[str]:
    """Collected of an empty list fails the run: a condition in front says whether there is anything."""
    for task in compiled.tasks:
        guarded = any(group.is_condition for group in task.around)
        for loop in {} if guarded or task.parent is None else _collected(task):
            yield (
                f"{task.path} collects what the loop {loop} makes, which fails the run where there are no items: put "
                "both below an If on whether there is work"
            )


def item_keys(compiled: Compiled) -> Iterator[str]:
    """`item.name` is the name of the SDK's own object, a text: the key is not reached."""
    for task in compiled.tasks:
        items = [group.body.get("parameterIterator", {}).get("itemInput", "") for group in task.around]
        for key, source in task.parameters.items():
            value = constant(source)
            if isinstance(value, str) and value.endswith(_ITEM) and any(item.endswith(value) for item in items):
                yield (
                    f"{task.path}: {key} is given {value!r}, the name of the loop's item and not its key `name`, which "
                    "cannot be reached: call the key otherwise, or hand on the whole item"
                )


def final_status(compiled: Compiled) -> Iterator[str]:
    """PipelineTaskFinalStatus says RUNNING of runs that went well and of those that did not."""
    for task in compiled.tasks:
        if any("taskFinalStatus" in source for source in task.parameters.values()):
            yield (
                f"{task.path} takes PipelineTaskFinalStatus, which says RUNNING of good and of failed runs, and stops "
                "the task from running where a pod was started twice: read the records in the store"
            )


def _collected(task: Task) -> dict[str, None]:
    """The loops, by name, whose results it takes, and which may have no items."""
    group = task.parent
    sources = [
        source[kind].get("producerTask", "")
        for source in (*task.parameters.values(), *task.artifacts.values())
        for kind in ("taskOutputParameter", "taskOutputArtifact")
        if kind in source
    ]
    loops = {name: group.children[name] for name in sources if group is not None and name in group.children}
    return {name: None for name, loop in loops.items() if loop.is_loop and _may_be_empty(loop)}


def _may_be_empty(loop: Task) -> bool:
    raw = loop.body.get("parameterIterator", {}).get("items", {}).get("raw")
    return raw is None or not json.loads(raw)
