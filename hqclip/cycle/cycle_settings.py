"""What is asked of a cycle in; the settings of its stages and its trials out, with all that is wrong at once."""

from __future__ import annotations

import dataclasses
from typing import Any

from hqclip.config import PlanConfig
from hqclip.cycle.foreseen import refused_prices
from hqclip.cycle.resolve import resolve_settings
from hqclip.errors import ConfigError
from hqclip.recipes import RECIPES
from hqclip.settings import did_you_mean, read_overrides
from hqclip.stages import CYCLE, TRAINING
from hqclip.train.architecture import refusals

MAX_TRIALS = 16


def resolve(config: PlanConfig) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Settings of every stage, defaults filled in, and the trials. Raises `ConfigError` with all problems at once."""
    settings, problems = resolve_settings("cycle", config.preset, _own(config), config.overrides)
    trials = [_trial(name, problems) for name in config.trials]
    problems += [*_training_problems(config), *refused_prices(config.gpu_prices)]
    problems += refusals(settings["train"], trials) if "train" in settings else []
    if len(trials) > MAX_TRIALS or len(set(config.trials)) < len(trials):
        problems.append(f"trials: give at most {MAX_TRIALS} different ones, got {len(trials)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return settings, trials


def _training_problems(config: PlanConfig) -> list[str]:
    """What is wrong with what is trained, or with what is said of training where nothing is."""
    if not config.data_only:
        problems = [] if config.trials else ["trials is empty: give recipes, or data_only to train nothing"]
        return problems if config.suite else [*problems, "suite is missing: what is trained must be judged"]
    problems = ["data_only is true, and there are trials: give one of them"] if config.trials else []
    given = [field.name for field in dataclasses.fields(config) if getattr(config, field.name) != field.default]
    words = [name for name in given if name == "suite" or name.partition("_")[0] in TRAINING]
    words += [f"override {name!r}" for name in read_overrides(config.overrides) if name.partition(".")[0] in TRAINING]
    return problems + [f"{word}: nothing is trained, as data_only is true; leave it out" for word in words]


def _own(config: PlanConfig) -> dict[str, dict[str, Any]]:
    """Settings that the plan has under the name of a stage, as `train_seed`; their defaults leave it to the preset."""
    own: dict[str, dict[str, Any]] = {stage: {} for stage in CYCLE}
    for field in dataclasses.fields(config):
        stage, _, setting = field.name.partition("_")
        if stage in own and getattr(config, field.name) != field.default:
            own[stage][setting] = getattr(config, field.name)
    return own


def _trial(name: str, problems: list[str]) -> dict[str, Any]:
    if name not in RECIPES:
        problems.append(f"unknown recipe {name!r} in trials{did_you_mean(name, RECIPES)}; one of {', '.join(RECIPES)}")
    return {"name": name, "settings": RECIPES[name].settings if name in RECIPES else {}}
