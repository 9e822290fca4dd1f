"""Trials to try in, a sweep plan out: training runs that differ in some settings, on one data set, with one judge."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hqclip.config import SweepConfig, TrainConfig
from hqclip.cycle.budget.refusal import Asked, budget_of, refuse_excess
from hqclip.cycle.cycle_settings import MAX_TRIALS
from hqclip.cycle.foreseen import refused_prices
from hqclip.cycle.keys import notes_of, runs_of
from hqclip.cycle.plan import known_to, resolve_suite
from hqclip.cycle.resolve import complete, ranks_of, resolve_machines, resolve_settings
from hqclip.cycle.sweep_data import SweepData, choose_data
from hqclip.errors import ConfigError
from hqclip.presets import find_preset
from hqclip.recipes import LOSSES
from hqclip.records import Sweep, SweepPlan, canonical_json, digest_of
from hqclip.stages import HANDED_ON
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json_or_warn
from hqclip.strict_json import read_json
from hqclip.train.architecture import check_models, refusals

SHORT = {
    "learning_rate": "lr",
    "batch_size": "batch",
    "generated_share": "gen",
    "weight_decay": "wd",
    "samples_seen": "samples",
    **{loss.weight: loss.short for loss in LOSSES.values() if loss.short},
}


def run(config: SweepConfig) -> dict[str, Any]:
    """Write `sweeps/{digest}.plan.json`. Raises `ConfigError` with everything that is wrong with the trials.

    Without a data set the same trials have the data that they had before, if they were planned before, else that of the
    newest finished cycle. A sweep of which trials failed has work: those. Raises `NotFoundError` without data.
    """
    store = open_store(config.store)
    settings, trials = resolve(config)
    machines = resolve_machines(config, settings)
    ranks = ranks_of(machines.get("train"))
    check_models(settings["train"], trials, here="train" not in machines, ranks=ranks)
    suite = resolve_suite(store, config.suite, settings["evaluate"])
    asked = {"suite": suite.digest, "settings": settings, "points": trials}
    planned = _planned_before(store, asked, config.preset)
    data = choose_data(store, config.dataset, planned)
    _check_batches(settings["train"], trials, data, ranks)
    plan = {"dataset": data.key, **asked}
    digest = planned.get(data.key) or digest_of(plan)
    record = f"sweeps/{digest}.json"
    compared = read_json_or_warn(store, record, "sweep", Sweep) if store.exists(record) else None
    failed = [one["trial"] for one in (compared or {}).get("failed", ())]
    done = compared is not None and not failed
    budget = budget_of(config, settings, machines)
    about = "is done" if done else f"has {len(trials)} trials"
    about += f", of which {', '.join(failed)} failed and will be tried again" if failed else ""
    if not done:
        about += refuse_excess(store, Asked(f"sweep {digest}", notes_of(digest), settings, trials), budget)
    key = f"sweeps/{digest}.plan.json"
    if not store.exists(key):
        store.write(key, canonical_json(plan))
    runnable = {stage: {"store": config.store, **values} for stage, values in settings.items()}
    runnable["train"]["dataset"] = data.key
    runnable["evaluate"]["suite"] = suite.uri
    runnable["select"] = {"store": config.store, "plan": key}
    return {
        "plan": key,
        "has_work": not done,
        "reason": f"sweep {digest} {about}. {data.about}",
        "dataset": data.key,
        "settings": runnable,
        "trials": trials,
        "machines": machines,
        "budget": dataclasses.asdict(budget),
        "runs": runs_of(digest),
        "notes": notes_of(digest),
    }


def _planned_before(store: Store, asked: Mapping[str, Any], preset: str) -> dict[str, str]:
    """Sweeps by their data set that were planned to try the same; older versions knew fewer settings."""
    found = {}
    for key in store.list("sweeps/"):
        if match := re.fullmatch(r"sweeps/(\w+)\.plan\.json", key):
            planned = read_json_or_warn(store, key, "sweep", SweepPlan) or {}
            known = known_to(planned.get("settings", {}), asked["settings"], find_preset(preset))
            same = {**asked, "settings": known}
            dataset = str(planned.get("dataset", ""))
            if digest_of({"dataset": dataset, **same}) == match[1]:
                found[dataset] = match[1]
    return found


def _check_batches(
    common: Mapping[str, Any],
    trials: Iterable[Mapping[str, Any]],
    data: SweepData,
    ranks: int,
) -> None:
    """Raises `ConfigError` naming the trials whose batches are larger than the data, or no multiple of the ranks."""
    problems = []
    for trial in trials:
        size = int(trial["settings"].get("batch_size", common["batch_size"]))
        if size > data.usable_rows:
            problems.append(
                f"trial {trial['name']}: batch_size {size} is more than the {data.usable_rows} usable samples of "
                f"{data.key}; give less"
            )
        try:
            settings = {**common, **trial["settings"], "store": "-", "dataset": "-", "run": "-"}
            TrainConfig.from_mapping(settings, "train.").check_ranks(ranks)
        except ConfigError as error:
            problems.append(f"trial {trial['name']}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def resolve(config: SweepConfig) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Common settings of train and evaluate, and the trials with what is their own."""
    own = {"train": {"seed": config.seed}, "evaluate": {}}
    settings, problems = resolve_settings("sweep", config.preset, own, config.overrides)
    problems += refused_prices(config.gpu_prices)
    trials = read_trials(config.trials)
    for trial in trials:
        problems += [
            f"trial {trial['name']}: the sweep sets {name} itself" for name in trial["settings"] if name in HANDED_ON
        ]
        try:
            trial["settings"] = _own(settings.get("train", {}), trial["settings"])
        except ConfigError as error:
            problems.append(f"trial {trial['name']}: {error}")
    problems += refusals(settings["train"], trials) if "train" in settings else []
    if problems:
        raise ConfigError("\n".join(problems))
    return settings, trials


def _own(common: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """The settings of a trial as training takes them, checked with those it shares."""
    checked = complete("train", {**common, **own})
    return {name: checked[name] for name in own}


def read_trials(text: str) -> list[dict[str, Any]]:
    """Trials of a grid or a list, at most 16, with names that say what they try. Raises `ConfigError`."""
    try:
        given = read_json(text)
    except ValueError as error:
        raise ConfigError(f"trials {error}") from None
    if isinstance(given, dict):
        given = _combinations(given)
    if not isinstance(given, list) or not all(isinstance(trial, dict) for trial in given):
        raise ConfigError('trials must be {"train.setting": [values]} or a list of {"name": ..., "settings": {...}}')
    trials: list[dict[str, Any]] = []
    for trial in given:
        if not set(trial) <= {"name", "settings"} or not isinstance(trial.get("settings"), dict):
            raise ConfigError(f"trial {json.dumps(trial)}: give just name and settings")
        settings = {str(name).removeprefix("train."): value for name, value in trial["settings"].items()}
        if twice := [name for name in settings if {name, f"train.{name}"} <= set(trial["settings"])]:
            raise ConfigError(f"trial {json.dumps(trial)}: {twice[0]} and train.{twice[0]} are one; give it once")
        trials.append({"name": str(trial.get("name") or _name(settings)), "settings": settings})
    names = [str(trial["name"]) for trial in trials]
    bad = [name for name in names if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,39}", name)]
    if bad or len(set(names)) < len(names) or not 1 <= len(trials) <= MAX_TRIALS:
        raise ConfigError(
            f"trials: give 1 to {MAX_TRIALS} with different names of at most 40 of a-z, 0-9, dots and dashes, got "
            f"{len(trials)}: {', '.join(names[:20])}"
        )
    return trials


def _combinations(grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Every value of each setting with every value of the others."""
    single = [name for name, values in grid.items() if not isinstance(values, list) or not values]
    if single:
        raise ConfigError(f"trials: {', '.join(single)} must have a list of values")
    return [{"settings": dict(zip(grid, values, strict=True))} for values in itertools.product(*grid.values())]


def _name(settings: dict[str, Any]) -> str:
    """`lr-0.001-neg-0.5`."""
    words = [f"{SHORT.get(name, name.replace('_', '-'))}-{_value(value)}" for name, value in settings.items()]
    return "-".join(words) or "base"


def _value(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-")
