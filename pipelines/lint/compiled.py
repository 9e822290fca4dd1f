"""A compiled pipeline as a tree of tasks: what every rule looks at.

A component that two tasks use is there twice, so that what a task is given can be followed to where it comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

Spec = Mapping[str, Any]
Source = Mapping[str, Any]  # of an input: componentInputParameter, taskOutputParameter, runtimeValue, ...


@dataclass(frozen=True)
class Compiled:
    """The first document of its YAML."""

    spec: Spec

    @cached_property
    def root(self) -> Task:
        """What holds all tasks; itself none."""
        return Task("root", {}, self.spec["root"], self.spec.get("components", {}))

    @property
    def tasks(self) -> Iterator[Task]:
        """Every task, groups among them."""
        return self.root.below()

    @property
    def containers(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The names of the executors, and what they run."""
        for name, executor in self.spec.get("deploymentSpec", {}).get("executors", {}).items():
            yield name, executor.get("container", {})

    def container(self, task: Task) -> Mapping[str, Any]:
        """What a task runs; nothing for a group."""
        return dict(self.containers).get(task.component.get("executorLabel", ""), {})


@dataclass(frozen=True)
class Task:
    """A task where it stands: a group (If, loop, exit handler, pipeline) if its component has a dag."""

    name: str
    body: Mapping[str, Any]
    component: Mapping[str, Any]
    components: Mapping[str, Any] = field(repr=False)
    parent: Task | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """As it is named in messages: the groups around it, and its name."""
        above = self.parent
        return f"{above.path}/{self.name}" if above is not None and above.parent is not None else self.name

    @cached_property
    def children(self) -> Mapping[str, Task]:
        """The tasks of a group, by their names."""
        return {
            name: Task(name, body, self.components[body["componentRef"]["name"]], self.components, self)
            for name, body in self.component.get("dag", {}).get("tasks", {}).items()
        }

    def below(self) -> Iterator[Task]:
        """The tasks of a group, and those of the groups in it."""
        for child in self.children.values():
            yield child
            yield from child.below()

    @property
    def around(self) -> Iterator[Task]:
        """The groups that it is in, the nearest first; without the root."""
        group = self.parent
        while group is not None and group.parent is not None:
            yield group
            group = group.parent

    @property
    def is_group(self) -> bool:
        """Whether it runs nothing itself."""
        return "dag" in self.component

    @property
    def is_loop(self) -> bool:
        """Whether it is there once for every item of a list."""
        return "parameterIterator" in self.body or "artifactIterator" in self.body

    @property
    def is_condition(self) -> bool:
        """Whether it is an If."""
        return bool(self.body.get("triggerPolicy", {}).get("condition"))

    @property
    def ignores_failure(self) -> bool:
        """Whether it is to run however the tasks before it ended, as the exit task does."""
        return bool(self.body.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED")

    @property
    def before(self) -> list[Task]:
        """The tasks of its group that it waits for."""
        names = self.body.get("dependentTasks", ())
        return [self.parent.children[name] for name in names if self.parent and name in self.parent.children]

    @property
    def parameters(self) -> Mapping[str, Source]:
        """What its inputs are given, by their names."""
        given: Mapping[str, Source] = self.body.get("inputs", {}).get("parameters", {})
        return given

    @property
    def artifacts(self) -> Mapping[str, Source]:
        """The same of artifacts."""
        given: Mapping[str, Source] = self.body.get("inputs", {}).get("artifacts", {})
        return given

    def takes(self, kind: str = "parameters") -> Mapping[str, Any]:
        """The definitions of what its component takes."""
        found: Mapping[str, Any] = self.component.get("inputDefinitions", {}).get(kind, {})
        return found

    def origin(self, source: Source, kind: str = "parameters") -> tuple[Task, Source]:
        """Where what it is given comes from: followed out of the groups around it, up to an input of the pipeline."""
        key = "componentInputParameter" if kind == "parameters" else "componentInputArtifact"
        asker = self
        while key in source and asker.parent is not None and asker.parent.parent is not None:
            outer = asker.parent.body.get("inputs", {}).get(kind, {}).get(source[key])
            if outer is None:  # an item of a loop, or not handed on
                break
            asker, source = asker.parent, outer
        return asker, source


def constant(source: Source) -> Any:
    """The value that was known when the pipeline was compiled, None if it was not."""
    return source.get("runtimeValue", {}).get("constant")
