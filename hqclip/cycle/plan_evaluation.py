"""A model and a suite in, what the stage `evaluate` takes in a pipeline out."""

from __future__ import annotations

import re
from typing import Any

from hqclip.config import PlanEvaluationConfig
from hqclip.cycle.crown import read_champion
from hqclip.cycle.plan import resolve_suite
from hqclip.cycle.resolve import complete, resolve_machines
from hqclip.errors import ConfigError, NotFoundError
from hqclip.exported import is_in_store
from hqclip.models.names import HUB
from hqclip.presets import find_preset
from hqclip.store import open_store
from hqclip.train.architecture import refusals


def run(config: PlanEvaluationConfig) -> dict[str, Any]:
    """Check model, suite and machines before a GPU is asked for. Raises `NotFoundError` and `ConfigError`.

    A model that is not in the store is first looked for where it is judged: this machine may not reach it.
    """
    store = open_store(config.store)
    settings = {"store": config.store, **resolve(config)}
    model = config.model
    if not model:
        champion = read_champion(store)
        if champion is None:
            raise NotFoundError(f"{store.uri} has no champion yet; name the model")
        model = champion.model
    if is_in_store(model) and not any(True for _ in store.list(f"{model}/")):
        raise NotFoundError(f"{store.uri}/{model}: there is no such model folder")
    settings["suite"] = resolve_suite(store, config.suite, settings).uri
    machines = resolve_machines(config, {"evaluate": settings})
    name = re.sub(r"[^\w.-]+", "-", model.removeprefix("runs/").removesuffix("/model")).strip("-")
    return {
        "model": model,
        "has_work": True,
        "reason": f"{model} is to be judged",
        "settings": {"evaluate": settings},
        "trials": [],
        "machines": machines,
        "runs": "",
        "notes": f"evaluations/requests/{name}/",
    }


def resolve(config: PlanEvaluationConfig) -> dict[str, Any]:
    """Settings of `evaluate`, defaults filled in. Raises `ConfigError`, also for a tag of a model that there is not."""
    elsewhere = is_in_store(config.model) or config.model.startswith((HUB, "/")) or "://" in config.model
    unknown = [] if elsewhere else refusals({"model": config.model.partition(":")[0]}, [{"settings": {}}])
    if unknown:
        raise ConfigError("\n".join(unknown))
    return complete("evaluate", find_preset(config.preset).get("evaluate", {}))
