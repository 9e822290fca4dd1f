"""`python -m pipelines lint`: what compiles but misbehaves, found in the YAML before Kubeflow sees it.

Each rule is something that was seen to go wrong with Kubeflow Pipelines 2.17, on a cluster or in the local runner.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from hqclip.errors import ConfigError
from hqclip.stages import STAGES
from pipelines.compiling import PIPELINES, compile_pipeline

Spec = dict[str, Any]
MOST_BYTES, MOST_TASKS, MOST_INPUTS = 100_000, 25, 20
_PLACEHOLDER = re.compile(r"\{\{\$[^}]*\}\}|\{\{channel:[^}]*\}\}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("what", nargs="*", help=f"pipelines or YAML files (all of {', '.join(PIPELINES)})")


def run(given: argparse.Namespace) -> int:
    """Print what is wrong, a line each. Raises `ConfigError` if anything is."""
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        for what in given.what or PIPELINES:
            path = Path(what) if what not in PIPELINES else compile_pipeline(what, Path(folder) / f"{what}.yaml")
            problems = lint(path)
            found += len(problems)
            for problem in problems:
                print(f"{what}: {problem}")
            if not problems:
                print(f"{what}: ok", file=sys.stderr)
    if found:
        raise ConfigError(f"{found} problems; see above")
    return 0


def lint(path: Path) -> list[str]:
    """What is wrong with a compiled pipeline. Raises `ConfigError` for what is none."""
    try:
        text = path.read_text(encoding="utf-8")
        spec = next(yaml.safe_load_all(text), None)
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no text
        raise ConfigError(f"{path}: {error}") from error
    if not _is_compiled(spec):
        raise ConfigError(f"{path}: this is no compiled pipeline")
    size = len(text.encode())
    too_big = [f"{size:,} bytes; a workflow object holds {MOST_BYTES:,} safely"] if size > MOST_BYTES else []
    return [*too_big, *(problem for rule in RULES for problem in rule(spec))]


def _is_compiled(spec: Any) -> bool:
    """Whether it has tasks, each of a component that is there: what the rules take for granted."""
    try:
        return all(
            isinstance(spec["components"][task["componentRef"]["name"]], dict)
            for _, tasks in _groups(spec)
            for task in tasks.values()
        )
    except (KeyError, TypeError, AttributeError):
        return False


def _inputs(spec: Spec) -> Iterator[str]:
    """The form of the UI: few, described, in the order of the stages."""
    inputs = spec["root"].get("inputDefinitions", {}).get("parameters", {})
    if len(inputs) > MOST_INPUTS:
        yield f"{len(inputs)} inputs; the form of the UI bears {MOST_INPUTS}, put the rest into presets"
    for name, told in inputs.items():
        if not told.get("description"):
            yield f"input {name} has no description"
        if told.get("isOptional") and "defaultValue" not in told:
            yield f"input {name} may be None, which the local runner cannot pass on; give it an empty default"
        if name != "store" and not name.startswith(tuple(f"{stage}_" for stage in STAGES)):
            yield f"input {name} is not named after its stage, and the UI sorts by name"


def _lightweight(spec: Spec) -> Iterator[str]:
    """Only lightweight components run both in a cluster and in the local runner."""
    for name, executor in spec.get("deploymentSpec", {}).get("executors", {}).items():
        said = json.dumps(executor.get("container", {}))
        if "kfp.dsl.executor_main" not in said:
            yield f"{name} is no lightweight component: the local runner refuses it"
        if "pip install" in said:
            yield f"{name} installs packages when it starts: slow, and other ones every time"
        if executor.get("container", {}).get("image", "").endswith(":latest"):
            yield f"{name} runs :latest, which is another image tomorrow"


def _decisions(spec: Spec) -> Iterator[str]:
    """What an If or a loop looks at is the single unnamed result of a task: named ones are skipped in silence."""
    for group, tasks in _groups(spec):
        for name, task in tasks.items():
            looked_at = json.dumps([task.get("triggerPolicy"), task.get("parameterIterator", {}).get("items")])
            for parameter, source in task.get("inputs", {}).get("parameters", {}).items():
                key = source.get("taskOutputParameter", {}).get("outputParameterKey", "Output")
                if key != "Output" and parameter in looked_at:
                    yield f"{group}/{name} decides by the named output {key!r}, which the local runner does not see"
            condition = task.get("triggerPolicy", {}).get("condition", "")
            if re.search(r"'[^']*\\'", condition) or condition.count('"') % 2:
                yield f"{group}/{name} compares with a text that has a quote in it: {condition}"


def _constants(spec: Spec) -> Iterator[str]:
    """Placeholders are put in only where they are the whole of a value."""
    for group, tasks in _groups(spec):
        for name, task in tasks.items():
            for key, source in task.get("inputs", {}).get("parameters", {}).items():
                value = source.get("runtimeValue", {}).get("constant")
                if isinstance(value, str) and _PLACEHOLDER.search(value) and not _PLACEHOLDER.fullmatch(value):
                    yield f"{group}/{name}: {key} joins text and a placeholder, which a cluster leaves alone: {value}"


def _selectors(spec: Spec) -> Iterator[str]:
    """One of several artifacts cannot be chosen in the local runner."""
    for name, component in spec.get("components", {}).items():
        for key, output in component.get("dag", {}).get("outputs", {}).get("artifacts", {}).items():
            if len(output.get("artifactSelectors", [])) > 1:
                yield f"{name}: output {key} is one of several artifacts; hand on a parameter instead"


def _caching(spec: Spec) -> Iterator[str]:
    """Whether there is anything to do is decided from the store: the cache looks at names, not at what is behind."""
    for group, tasks in _groups(spec):
        for name, task in tasks.items():
            inner = spec["components"][task["componentRef"]["name"]]
            if "dag" not in inner and task.get("cachingOptions", {}).get("enableCache"):
                yield f"{group}/{name} may be served from Kubeflow's cache; compose it with uncached()"


def _platform(text: Spec) -> Iterator[str]:
    """Volumes made by the pipeline and workspaces have sizes fixed at compile time, and do not exist locally."""
    for name in text.get("components", {}):
        if "createpvc" in name.replace("-", "").lower():
            yield f"{name} creates a volume: the local runner cannot; use the store"


def _number(spec: Spec) -> Iterator[str]:
    """Every task costs a driver and a pod."""
    number = sum(len(tasks) for _, tasks in _groups(spec))
    if number > MOST_TASKS:
        yield f"{number} tasks; the workflow object bears {MOST_TASKS} of them safely"


def _names(spec: Spec) -> Iterator[str]:
    """People read the graph."""
    for group, tasks in _groups(spec):
        for name, task in tasks.items():
            inner = spec["components"][task["componentRef"]["name"]]
            if "dag" not in inner and task.get("taskInfo", {}).get("name") == name:
                yield f"{group}/{name} has no display name; compose it with uncached()"


def _edges(spec: Spec) -> Iterator[str]:
    """What one task hands to another: a parameter of the same type, and one artifact to one input."""
    components = {"root": spec["root"], **spec.get("components", {})}
    for group, tasks in _groups(spec):
        own = components[group].get("inputDefinitions", {}).get("parameters", {})
        for name, task in tasks.items():
            inner = spec["components"][task["componentRef"]["name"]]
            wanted = inner.get("inputDefinitions", {}).get("parameters", {})
            for key, source in task.get("inputs", {}).get("parameters", {}).items():
                given = own.get(source.get("componentInputParameter"), {}).get("parameterType")
                asked = wanted.get(key, {}).get("parameterType")
                if given and asked and given != asked:
                    yield f"{group}/{name}: {key} takes {asked} and is given {given}, which a cluster refuses"
            handed = [
                json.dumps(source, sort_keys=True) for source in task.get("inputs", {}).get("artifacts", {}).values()
            ]
            if len(set(handed)) < len(handed):
                yield f"{group}/{name} is given one artifact twice, which a cluster's metadata refuses; give it a copy"


def _groups(spec: Spec) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "root", spec["root"]["dag"]["tasks"]
    for name, component in spec.get("components", {}).items():
        if "dag" in component:
            yield name, component["dag"]["tasks"]


RULES: tuple[Callable[[Spec], Iterator[str]], ...] = (
    *(_inputs, _lightweight, _decisions, _constants, _selectors, _caching, _platform, _number, _names, _edges),
)
