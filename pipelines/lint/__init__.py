"""A compiled pipeline in, what is wrong with it out.

Each rule is something that was seen to go wrong with Kubeflow Pipelines 2.17, on a cluster or in the local runner, or
stands in its source. Those of `BACKEND` end a run or change its meaning in silence, whoever wrote the pipeline: what
breaks one is not compiled, uploaded or run. The others keep ours alike, and runnable on a laptop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hqclip.errors import ConfigError
from pipelines.lint import edges, form, loops, pods, runner, size
from pipelines.lint.compiled import Compiled

Rule = Callable[[Compiled], Iterator[str]]
BACKEND: tuple[Rule, ...] = (
    *(edges.types, edges.artifacts, edges.threads, edges.placeholders, loops.ignored, loops.reducers),
    *(loops.item_keys, loops.final_status, pods.resources, pods.environment, size.given),
)
OURS: tuple[Rule, ...] = (
    *(form.inputs, form.names, form.number, runner.defaults, runner.lightweight, runner.decisions),
    *(runner.selectors, runner.caching, runner.volumes),
)


def lint(path: Path) -> list[str]:
    """What is wrong with a compiled pipeline, by all rules. Raises `ConfigError` for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
        spec = next(yaml.safe_load_all(text), None)
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no text
        raise ConfigError(f"{path}: {error}") from error
    if not _is_compiled(spec):
        raise ConfigError(f"{path}: this is no compiled pipeline")
    compiled = Compiled(spec)
    length, most = len(text.encode()), size.MOST_BYTES
    too_big = [f"{length:,} bytes; a workflow object holds {most:,} safely"] if length > most else []
    return [*too_big, *(problem for rule in (*BACKEND, *OURS) for problem in rule(compiled))]


def check(spec: Mapping[str, Any], name: str, inputs: Mapping[str, Any] | None = None) -> None:
    """Raises `ConfigError` with all that a cluster would refuse or misread in a pipeline, or in a run with `inputs`."""
    compiled = Compiled(spec.get("pipeline_spec", spec))
    rules = (lambda one: size.given(one, inputs),) if inputs is not None else BACKEND
    problems = [problem for rule in rules for problem in rule(compiled)] if _is_compiled(compiled.spec) else []
    if problems:
        raise ConfigError("\n".join(f"{name}: {problem}" for problem in problems))


def _is_compiled(spec: Any) -> bool:
    """Whether it has tasks, each of a component that is there: what the rules take for granted."""
    try:
        groups = [spec["root"], *(one for one in spec.get("components", {}).values() if "dag" in one)]
        return all(
            isinstance(spec["components"][task["componentRef"]["name"]], dict)
            for group in groups
            for task in group["dag"]["tasks"].values()
        )
    except (KeyError, TypeError, AttributeError):
        return False
