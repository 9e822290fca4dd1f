"""What the local runner and a cluster must both be able to run, and run anew every time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from pipelines.lint.compiled import Compiled


def defaults(compiled: Compiled) -> Iterator[str]:
    """An input that may be None cannot be handed on."""
    for name, told in compiled.root.takes().items():
        if told.get("isOptional") and "defaultValue" not in told:
            yield f"input {name} may be None, which the local runner cannot pass on; give it an empty default"


def lightweight(compiled: Compiled) -> Iterator[str]:
    """Only lightweight components run both in a cluster and in the local runner."""
    for name, container in compiled.containers:
        said = json.dumps(container)
        if "kfp.dsl.executor_main" not in said:
            yield f"{name} is no lightweight component: the local runner refuses it"
        if "pip install" in said:
            yield f"{name} installs packages when it starts: slow, and other ones every time"
        if container.get("image", "").endswith(":latest"):
            yield f"{name} runs :latest, which is another image tomorrow"


def decisions(compiled: Compiled) -> Iterator[str]:
    """What an If or a loop looks at is the single unnamed result of a task: named ones are skipped in silence."""
    for task in compiled.tasks:
        looked_at = json.dumps([task.body.get("triggerPolicy"), task.body.get("parameterIterator", {}).get("items")])
        for parameter, source in task.parameters.items():
            key = source.get("taskOutputParameter", {}).get("outputParameterKey", "Output")
            if key != "Output" and parameter in looked_at:
                yield f"{task.path} decides by the named output {key!r}, which the local runner does not see"
        condition = task.body.get("triggerPolicy", {}).get("condition", "")
        if re.search(r"'[^']*\\'", condition) or condition.count('"') % 2:
            yield f"{task.path} compares with a text that has a quote in it: {condition}"


def selectors(compiled: Compiled) -> Iterator[str]:
    """One of several artifacts cannot be chosen in the local runner."""
    for name, component in compiled.spec.get("components", {}).items():
        for key, output in component.get("dag", {}).get("outputs", {}).get("artifacts", {}).items():
            if len(output.get("artifactSelectors", [])) > 1:
                yield f"{name}: output {key} is one of several artifacts; hand on a parameter instead"


def caching(compiled: Compiled) -> Iterator[str]:
    """Whether there is anything to do is decided from the store: the cache looks at names, not at what is behind."""
    for task in compiled.tasks:
        if not task.is_group and task.body.get("cachingOptions", {}).get("enableCache"):
            yield f"{task.path} may be served from Kubeflow's cache; compose it with uncached()"


def volumes(compiled: Compiled) -> Iterator[str]:
    """Volumes made by the pipeline have sizes fixed when it was compiled, and do not exist locally."""
    for name in compiled.spec.get("components", {}):
        if "createpvc" in name.replace("-", "").lower():
            yield f"{name} creates a volume: the local runner cannot; use the store"
