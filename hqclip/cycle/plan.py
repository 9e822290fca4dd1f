"""Settings and data in, a cycle plan out: what is to be done, or why there is nothing to do.

The plan is written once, before any GPU is asked for; every stage of the cycle takes its settings from it. A cycle
with the same data, settings and champion as one that is done has nothing to do.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hqclip.config import PlanConfig
from hqclip.cycle import lock
from hqclip.cycle.notes import notes_prefix
from hqclip.data.sources import list_shards
from hqclip.errors import ConfigError, ConflictError
from hqclip.evaluate.suite import read_suite
from hqclip.launch.resolve import check_launched, plan_machines
from hqclip.presets import find_preset
from hqclip.recipes import RECIPES
from hqclip.records import Champion, CyclePlan, CycleRecord, digest_of
from hqclip.settings import did_you_mean
from hqclip.stages import CYCLE, STAGES
from hqclip.store import Store, open_store
from hqclip.train.architecture import check_models

MAX_TRIALS = 16
LATER = "(from an earlier stage)"
# what the plan itself or an earlier stage gives to a stage
HANDED_ON = (
    *("store", "shards", "suite", "pool", "annotations", "scores", "champion", "parent"),
    *("dataset", "run", "evaluations", "plan"),
)


def run(config: PlanConfig) -> dict[str, Any]:
    """Write `cycles/{n:06d}.plan.json`, or find that the work is done. Raises `ConfigError` listing every problem."""
    store = open_store(config.store)
    settings, trials = resolve(config)
    known = {stage: {**values, "store": config.store} for stage, values in settings.items()}
    machines = plan_machines(config.launch, known) if config.launch else {}
    check_launched(machines, config.launched)
    check_models(settings["train"], trials, here="train" not in machines)
    source = [[shard.name, shard.size, shard.identity] for _, shard in list_shards(config.shards)]
    suite = suite_digest(config.suite) if config.suite else ""

    def fingerprint(champion: dict[str, Any] | None, planned: CyclePlan | None = None) -> str:
        known = known_to(planned.settings, settings) if planned else settings
        return digest_of([source, suite, known, trials, champion and champion["model_digest"]])

    number = config.cycle or _open_cycle(store, fingerprint)
    key = plan_key(number)
    plan = _read_plan(store, key)
    if plan is None:
        champion = _champion(store)
        plan = CyclePlan(
            cycle=number,
            fingerprint=fingerprint(champion),
            champion=champion,
            settings=_with_champion(store, settings, champion),
            trials=tuple(trials),
        )
        store.write(key, plan.to_json())
    elif plan.fingerprint != fingerprint(plan.champion, plan):
        raise ConflictError(
            f"cycle {number} was planned with other settings, shards or suite; give cycle 0 (--cycle 0, in a pipeline "
            "plan_cycle=0) to open the next one, or another store"
        )
    notes = notes_prefix(number)
    done = store.exists(record_key(number)) or (not trials and store.exists(f"{notes}curate.json"))
    reason = f"cycle {number} is done: the same data, settings and champion" if done else f"cycle {number} has work"
    owner = lock.owner_of(config.owner)
    busy = lock.take(store, owner, number) if owner and not done else ""
    return {
        "plan": key,
        "cycle": number,
        "has_work": not (done or busy),
        "reason": f"skipped: {busy}; the next run goes on from what it leaves" if busy else reason,
        **_runnable(config, plan),
        "machines": machines,
        "owner": owner,
        "runs": f"{number:06d}-",
        "notes": notes,
    }


def suite_digest(uri: str) -> str:
    """What identifies the suite, whose benchmarks are checked. Raises `DataError` if it is none or has faults."""
    return read_suite(uri).digest


def _runnable(config: PlanConfig, plan: CyclePlan) -> dict[str, Any]:
    """The plan with what depends on where it runs: `settings` of every stage and the list of trials."""
    settings = {stage: {"store": config.store, **values} for stage, values in plan.settings.items()}
    settings["download"]["shards"] = config.shards
    settings["evaluate"]["suite"] = config.suite
    settings["promote"]["plan"] = plan_key(plan.cycle)
    return {"settings": settings, "trials": list(plan.trials)}


def plan_key(cycle: int) -> str:
    """Where the plan of a cycle is."""
    return f"cycles/{cycle:06d}.plan.json"


def record_key(cycle: int) -> str:
    """Where the record of a finished cycle is."""
    return f"cycles/{cycle:06d}.json"


def resolve(config: PlanConfig) -> tuple[dict[str, dict[str, Any]], list[dict[str, Any]]]:
    """Settings of every stage, defaults filled in, and the trials. Raises `ConfigError` with all problems at once."""
    problems: list[str] = []
    given = _given(config, problems)
    settings = {}
    for stage in CYCLE:
        try:
            settings[stage] = complete(STAGES[stage].settings, given[stage], f"{stage}.")
        except ConfigError as error:
            problems.append(str(error))
    trials = [_trial(name, problems) for name in config.trials]
    if trials and not config.suite:
        problems.append(
            "suite is missing: what is trained must be judged; give --suite, or no trials to make data only"
        )
    if len(trials) > MAX_TRIALS or len(set(config.trials)) < len(trials):
        problems.append(f"trials: give at most {MAX_TRIALS} different ones, got {len(trials)}")
    if problems:
        raise ConfigError("\n".join(problems))
    return settings, trials


def _given(config: PlanConfig, problems: list[str]) -> dict[str, dict[str, Any]]:
    """What preset, pipeline inputs and overrides say, the later winning."""
    preset = find_preset(config.preset)
    given: dict[str, dict[str, Any]] = {stage: dict(preset.get(stage, {})) for stage in CYCLE}
    given["train"]["seed"] = config.train_seed
    if config.annotate_model:
        given["annotate"]["model"] = config.annotate_model
    if config.train_samples_seen:
        given["train"]["samples_seen"] = config.train_samples_seen
    for name, value in read_overrides(config.overrides).items():
        stage, _, setting = name.partition(".")
        if stage not in given:
            problems.append(f"unknown stage in override {name!r}{did_you_mean(stage, given)}")
        elif setting in HANDED_ON:
            problems.append(f"override {name!r}: the cycle sets this itself")
        else:
            given[stage][setting] = value
    return given


def complete(kind: Any, given: dict[str, Any], where: str) -> dict[str, Any]:
    """Check the settings of one stage; what other stages will say is left out."""
    later = {f.name for f in dataclasses.fields(kind) if f.default is dataclasses.MISSING and f.name not in given}
    checked = kind.from_mapping({**given, **dict.fromkeys(later, LATER)}, where).to_mapping()
    return {name: value for name, value in checked.items() if name not in later}


def read_overrides(text: str) -> dict[str, Any]:
    """Settings by `stage.name` out of JSON. Raises `ConfigError`."""
    try:
        values = json.loads(text or "{}")
    except json.JSONDecodeError as error:
        raise ConfigError(f"overrides is not valid JSON at character {error.pos}: {error.msg}") from None
    if not isinstance(values, dict):
        raise ConfigError('overrides must be a JSON object such as {"train.learning_rate": 0.001}')
    return values


def _trial(name: str, problems: list[str]) -> dict[str, Any]:
    if name not in RECIPES:
        problems.append(f"unknown recipe {name!r} in trials{did_you_mean(name, RECIPES)}; one of {', '.join(RECIPES)}")
    return {"name": name, "settings": RECIPES[name].settings if name in RECIPES else {}}


def newest_cycle(store: Store) -> int:
    """The highest number that was planned; 0 in a new store."""
    found = (re.fullmatch(r"cycles/(\d+)\.plan\.json", key) for key in store.list("cycles/"))
    return max((int(match[1]) for match in found if match), default=0)


def _open_cycle(store: Store, fingerprint: Callable[[dict[str, Any] | None, CyclePlan], str]) -> int:
    """The newest cycle if it is the same work, done or not; else the next number."""
    newest = newest_cycle(store)
    plan = _read_plan(store, plan_key(newest))
    if plan is None:
        return newest + 1
    champion = _champion(store) if store.exists(record_key(newest)) else plan.champion
    return newest if plan.fingerprint == fingerprint(champion, plan) else newest + 1


def known_to(planned: Mapping[str, Any], settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The settings without those that the version which planned did not know, if they have their defaults."""

    def is_default(stage: str, name: str, value: Any) -> bool:
        fields = {field.name: field.default for field in dataclasses.fields(STAGES[stage].settings)}
        return bool(fields[name] == (tuple(value) if isinstance(value, list) else value))

    return {
        stage: {
            name: value
            for name, value in values.items()
            if name in planned.get(stage, {}) or not is_default(stage, name, value)
        }
        for stage, values in settings.items()
    }


def _read_plan(store: Store, key: str) -> CyclePlan | None:
    return CyclePlan.from_json(store.read(key), key) if store.exists(key) else None


def _champion(store: Store) -> dict[str, Any] | None:
    if not store.exists("champion.json"):
        return None
    champion = Champion.from_json(store.read("champion.json"), "champion.json")
    return {"model": champion.model, "model_digest": champion.model_digest, "cycle": champion.cycle}


def _with_champion(
    store: Store, settings: dict[str, dict[str, Any]], champion: dict[str, Any] | None
) -> dict[str, dict[str, Any]]:
    """The champion scores this cycle's data; its data set is the parent of the new one."""
    if champion is None:
        return settings
    record = CycleRecord.from_json(store.read(record_key(champion["cycle"])), record_key(champion["cycle"]))
    return {
        **settings,
        "score": {**settings["score"], "champion": champion["model"]},
        "curate": {**settings["curate"], "parent": record.dataset.split("/")[1]},
    }
