"""Settings and data in, a cycle plan out: what is to be done, or why there is nothing to do.

The plan is written once, before any GPU is asked for; every stage of the cycle takes its settings from it. A cycle
with the same data, settings and champion as one that is done has nothing to do. A promotion that was cut short is
finished first.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from hqclip import log
from hqclip.config import PlanConfig, PromoteConfig
from hqclip.cycle import crown, lock
from hqclip.cycle.budget.refusal import Asked, budget_of, refuse_excess
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.foreseen import refused_with_scores
from hqclip.cycle.gate import check_names, judged_key
from hqclip.cycle.keys import newest_cycle, notes_prefix, plan_key, record_key
from hqclip.cycle.pinned import NOTE, as_planned, pin
from hqclip.cycle.resolve import ranks_of, resolve_machines, with_later
from hqclip.data.sources import list_shards
from hqclip.errors import ConfigError, ConflictError, HQClipError
from hqclip.evaluate.importing.folders import find_suite
from hqclip.evaluate.suite import choose, read_suite
from hqclip.presets import find_preset
from hqclip.provenance import made_by
from hqclip.records import CyclePlan, CycleRecord, digest_of
from hqclip.stages import STAGES
from hqclip.store import Store, open_store
from hqclip.store.documents import read_if_there, write_manifest
from hqclip.train.architecture import check_models


def run(config: PlanConfig) -> dict[str, Any]:
    """Write `cycles/{n:06d}.plan.json`, or find that the work is done. Raises `ConfigError` listing every problem."""
    store = open_store(config.store)
    settings, trials = resolve(config)
    machines = resolve_machines(config, settings)
    ranks = ranks_of(machines.get("train"))
    check_models(settings["train"], trials, here="train" not in machines, ranks=ranks)
    listed = [shard for _, shard in list_shards(config.shards)]
    source = [[shard.name, shard.size, shard.identity] for shard in listed]
    suite = resolve_suite(store, config.suite, settings["evaluate"]) if config.suite else FoundSuite("", "", "", ())
    if config.suite:
        check_names(PromoteConfig.from_mapping(with_later("promote", settings["promote"])), suite.sets)

    def fingerprint(champion: dict[str, Any] | None, planned: CyclePlan) -> str:
        known = known_to(planned.settings, as_planned(planned, settings), find_preset(config.preset))
        return _fingerprint(source, suite, known, trials, champion)

    _finish_promotion(store)
    number = config.cycle or _open_cycle(store, fingerprint)
    key = plan_key(number)
    plan = written = _read_plan(store, key)
    if plan is None:
        champion = _champion(store)
        pinned, names = pin(settings)
        plan = CyclePlan(
            cycle=number,
            fingerprint=_fingerprint(source, suite, pinned, trials, champion),
            champion=champion,
            settings=_with_champion(store, pinned, champion),
            trials=tuple(trials),
            provenance=made_by(
                "plan",
                config.to_mapping(),
                [record_key(champion["cycle"])] if champion else [],
                source={"shards": len(source), "digest": digest_of(source)},
                suite=suite.digest,
                **({NOTE: names} if names else {}),
            ),
        )
    notes = notes_prefix(number)
    done = store.exists(record_key(number)) or (not trials and store.exists(f"{notes}curate.json"))
    if written and written.fingerprint != fingerprint(written.champion if done else _champion(store), written):
        raise ConflictError(
            f"cycle {number} was planned with other settings, shards or suite, or against another champion; give cycle "
            "0 (--cycle 0, in a pipeline plan_cycle=0) to open the next one, or another store"
        )
    reason = _why_done(store, number) if done else f"cycle {number} has work"
    owner = lock.owner_of(config.owner)
    if plan.champion and not done:
        _check_champion(store, plan, suite)
    budget = budget_of(config, settings, machines)
    busy = lock.take(store, owner, number) if owner and not done else None
    if not done and not busy:
        with _let_go_if_refused(store, owner):
            shards = [(shard.size, shard.identity) for shard in listed]
            reason += refuse_excess(store, Asked(f"cycle {number}", notes, settings, trials, shards), budget)
    if written is None and not busy:  # who is kept out opens no cycle: the one under way would no longer be the newest
        write_manifest(store, key, plan)
    return {
        "plan": key,
        "cycle": number,
        "has_work": not (done or busy),
        "reason": f"skipped: {busy.reason}; the next run goes on from what it leaves" if busy else reason,
        "locked_by": busy.owner if busy else "",
        **_runnable(config, plan, suite.uri),
        "machines": machines if plan.champion else {stage: m for stage, m in machines.items() if stage != "score"},
        "budget": dataclasses.asdict(budget),
        "score_gpus": "1" if plan.champion else "0",  # as text: what tasks ask for cannot be an integer
        "owner": owner,
        "runs": f"{number:06d}-",
        "notes": notes,
    }


def _check_champion(store: Store, plan: CyclePlan, suite: FoundSuite) -> None:
    """Raises `ConfigError` for what scores make impossible, `NotFoundError` if there are none to hold winners against.

    `curate` and `promote` would say so, when all is annotated or trained.
    """
    if problems := refused_with_scores(plan.settings):
        raise ConfigError("\n".join(problems))
    if plan.trials:
        judged_key(store, plan.champion or {}, suite.judged)


@contextmanager
def _let_go_if_refused(store: Store, owner: str) -> Iterator[None]:
    """A run that does not begin keeps nobody else out."""
    try:
        yield
    except HQClipError:
        if owner:
            lock.release(store, owner)
        raise


def _why_done(store: Store, cycle: int) -> str:
    said = f"cycle {cycle} is done: the same data, settings and champion"
    if store.exists(record_key(cycle)) and crown.read_record(store, cycle).verdict == crown.WAITS:
        said += f"; its winner {crown.WAITS}: `hqclip approve --store {store.uri} --cycle {cycle}`"
    return said


def _finish_promotion(store: Store) -> None:
    """A `promote` that was killed or failed in the middle leaves a store that contradicts itself: finish its work."""
    if cycle := crown.unfinished_promotion(store):
        from hqclip.cycle import promote  # what it imports, to write a page, is not wanted otherwise

        log.info("plan", f"the promotion of cycle {cycle} was cut short; finishing it")
        promote.finish(store, cycle)


def _fingerprint(
    source: list[list[Any]],
    suite: FoundSuite,
    settings: Mapping[str, Any],
    trials: list[dict[str, Any]],
    champion: dict[str, Any] | None,
) -> str:
    """What is the same work has the same: data, suite, settings, trials, champion."""
    return digest_of([source, suite.digest, settings, trials, champion and champion["model_digest"]])


class FoundSuite(NamedTuple):
    """Where the `suite.json` is, what identifies all of it and what is judged by, and the names of those sets."""

    uri: str
    digest: str
    judged: str
    sets: tuple[str, ...]


def resolve_suite(store: Store, uri: str, settings: Mapping[str, Any]) -> FoundSuite:
    """The suite, whose benchmarks are checked; a folder of sets is made one in the store. `settings`: of `evaluate`.

    Raises `DataError` if it is none or has faults, and `NotFoundError` for sets that are asked for and not in it.
    """
    found = find_suite(store, uri)
    suite = read_suite(found)
    judges = choose(suite, settings["sets"], skip_missing=settings["skip_missing"]) if settings["sets"] else suite
    return FoundSuite(found, suite.digest, judges.digest, tuple(benchmark.name for benchmark in judges.benchmarks))


def _runnable(config: PlanConfig, plan: CyclePlan, suite: str) -> dict[str, Any]:
    """The plan with what depends on where it runs: `settings` of every stage and the list of trials."""
    settings = {stage: {"store": config.store, **values} for stage, values in plan.settings.items()}
    settings["download"]["shards"] = config.shards
    settings["evaluate"]["suite"] = suite
    settings["promote"]["plan"] = plan_key(plan.cycle)
    return {"settings": settings, "trials": list(plan.trials)}


def _open_cycle(store: Store, fingerprint: Callable[[dict[str, Any] | None, CyclePlan], str]) -> int:
    """The newest cycle if it is the same work, done or not; else the next number.

    Against another champion it is other work, though it be half done: what it has won would not be put in force.
    """
    newest = newest_cycle(store)
    plan = _read_plan(store, plan_key(newest))
    if plan is None:
        return newest + 1
    return newest if plan.fingerprint == fingerprint(_champion(store), plan) else newest + 1


def known_to(
    planned: Mapping[str, Any], settings: dict[str, dict[str, Any]], preset: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The settings without those that the version which planned did not know, if nobody but the preset chose them."""

    def is_default(stage: str, name: str, value: Any) -> bool:
        fields = {field.name: field.default for field in dataclasses.fields(STAGES[stage].settings)}
        fields |= preset.get(stage, {})
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
    return read_if_there(store, key, CyclePlan)


def _champion(store: Store) -> dict[str, Any] | None:
    champion = crown.read_champion(store)
    if champion is None:
        return None
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
