"""What people see of a pipeline, in the form of its inputs and in its graph."""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.stages import STAGES
from pipelines.carried import PREFIX
from pipelines.lint.compiled import Compiled

MOST_INPUTS, MOST_TASKS = 20, 25


def inputs(compiled: Compiled) -> Iterator[str]:
    """The form of the UI: few, described, in the order of the stages."""
    given = compiled.root.takes()
    if len(given) > MOST_INPUTS:
        yield f"{len(given)} inputs; the form of the UI bears {MOST_INPUTS}, put the rest into presets"
    for name, told in given.items():
        if not told.get("description"):
            yield f"input {name} has no description"
        if name != "store" and not name.startswith((PREFIX, *(f"{stage}_" for stage in STAGES))):
            yield f"input {name} is not named after its stage, and the UI sorts by name"


def names(compiled: Compiled) -> Iterator[str]:
    """People read the graph."""
    for task in compiled.tasks:
        if not task.is_group and task.body.get("taskInfo", {}).get("name") == task.name:
            yield f"{task.path} has no display name; compose it with uncached()"


def number(compiled: Compiled) -> Iterator[str]:
    """Every task costs a driver and a pod."""
    found = sum(1 for _ in compiled.tasks)
    if found > MOST_TASKS:
        yield f"{found} tasks; the workflow object bears {MOST_TASKS} of them safely"
