"""A model and a suite in, what the stage `evaluate` takes in a pipeline out."""

from __future__ import annotations

from typing import Any

from hqclip.config import EvaluateConfig, PlanEvaluationConfig
from hqclip.cycle.plan import complete, suite_digest
from hqclip.errors import NotFoundError
from hqclip.launch.resolve import check_launched, plan_machines
from hqclip.presets import find_preset
from hqclip.records import Champion
from hqclip.store import open_store


def run(config: PlanEvaluationConfig) -> dict[str, Any]:
    """Check model, suite and machines before a GPU is asked for. Raises `NotFoundError` and `ConfigError`."""
    store = open_store(config.store)
    preset = find_preset(config.preset)
    model = config.model
    if not model:
        champion = store.read("champion.json") if store.exists("champion.json") else None
        if champion is None:
            raise NotFoundError(f"{store.uri} has no champion yet; name the model")
        model = Champion.from_json(champion, "champion.json").model
    if not any(True for _ in store.list(f"{model}/")):
        raise NotFoundError(f"{store.uri}/{model}: there is no such model folder")
    suite_digest(config.suite)
    settings = complete(EvaluateConfig, dict(preset.get("evaluate", {})), "evaluate.")
    given = {"store": config.store, **settings, "suite": config.suite}
    machines = plan_machines(config.launch, {"evaluate": given}) if config.launch else {}
    check_launched(machines, config.launched)
    name = model.removeprefix("runs/").removesuffix("/model").replace("/", "-")
    return {
        "model": model,
        "has_work": True,
        "reason": f"{model} is to be judged",
        "settings": {"evaluate": given},
        "trials": [],
        "machines": machines,
        "runs": "",
        "notes": f"evaluations/requests/{name}/",
    }
