"""A closed cycle in, the commands that make it again out, its parents first; and what they need that is gone.

All settings are spelled out as the plan of the cycle has them, as far as this version and its presets would choose
others: what a preset says may change, what a cycle was made with does not.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

from hqclip.config import PlanConfig
from hqclip.cycle.config import ReproduceConfig
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.keys import plan_key
from hqclip.cycle.links import Document, Gone, Link, champion_cycle, read_chain
from hqclip.cycle.still_there import not_there
from hqclip.errors import DataError, NotFoundError
from hqclip.presets import PRESETS
from hqclip.recipes import RECIPES
from hqclip.records import CyclePlan
from hqclip.stages import HANDED_ON
from hqclip.store import Store, open_store
from hqclip.typed_json import WrongValueError, read_as

INPUTS = {
    "store": "store",
    "shards": "download_shards",
    "suite": "evaluate_suite",
    "preset": "plan_preset",
    "cycle": "plan_cycle",
    "trials": "train_trials",
    "overrides": "plan_overrides",
    "launch": "plan_launch",
}  # settings of `plan` by their names as inputs of the pipeline
UNRECORDED = "NOT-RECORDED"
HEAD = "python -m pipelines run refine"


@dataclass(frozen=True)
class Again:
    """One cycle to make again: the inputs of its pipeline, and all settings as they were."""

    cycle: int
    inputs: Mapping[str, Any]
    settings: Mapping[str, Any]
    missing: Sequence[str]


def reproduce(config: ReproduceConfig) -> dict[str, Any]:
    """Commands, settings, and what of them is `missing`. Raises `NotFoundError` for a cycle that is not closed."""
    store = open_store(config.store)
    chain = read_chain(store, config.cycle or champion_cycle(store))
    cycles = [_again(store, link, config.into) for link in reversed(chain) if isinstance(link, Link)]
    missing = [f"cycle {link.record.cycle}: its data set was deleted since" for link in chain if isinstance(link, Gone)]
    missing += [f"cycle {each.cycle}: {what}" for each in cycles for what in each.missing]
    return {"cycles": [_document(each) for each in cycles], "missing": missing}


def show(result: Mapping[str, Any]) -> str:
    """As a shell takes it: every cycle in its turn, on a cluster or on this machine, and the settings as comments."""
    lines = []
    for each in result["cycles"]:
        lines += [f"# cycle {each['cycle']} on a cluster:", each["pipeline"]]
        lines += ["# or on this machine:", f"# {each['local']}", "# with these settings:"]
        for stage, values in each["settings"].items():
            lines += [f"#   {stage}.{name} = {json.dumps(value)}" for name, value in values.items()]
    return "\n".join(lines)


def check(result: Mapping[str, Any]) -> None:
    """Raises `NotFoundError` if something that the cycles were made with is not there any more."""
    if result["missing"]:
        listed = "\n".join(f"  {what}" for what in result["missing"])
        raise NotFoundError(f"not all that this was made with is there; what is made again may differ by it:\n{listed}")


def _again(store: Store, link: Link, into: str) -> Again:
    plan = link.plan
    if plan is None:
        raise NotFoundError(f"{store.uri} has no plan of cycle {link.record.cycle}: its settings are gone")
    given = _given(plan)
    preset = given.get("preset", "") if given.get("preset") in PRESETS else PlanConfig.preset
    source = given.get("shards") or (link.pool.source if link.pool else UNRECORDED)
    inputs = {
        "store": into,
        "shards": source,
        "suite": given.get("suite") or UNRECORDED,
        "preset": preset,
        "cycle": plan.cycle,
        "trials": ",".join(trial["name"] for trial in plan.trials),
        "launch": given.get("launch", ""),
        "launched": ",".join(given.get("launched", ())),
    }
    settings = _pinned(plan.settings, link.annotator)
    overrides, unknown = _overrides(preset, settings, [trial["name"] for trial in plan.trials])
    inputs["overrides"] = json.dumps(overrides)
    missing = [
        *unknown,
        *_other_recipes(plan.trials),
        *not_there(store, link, inputs["shards"], given.get("suite", "")),
    ]
    return Again(plan.cycle, inputs, settings, missing)


class _Given(TypedDict, total=False):
    """Of the settings of the plan itself, those that are given again."""

    preset: str
    shards: str
    suite: str
    launch: str
    launched: list[str]


def _given(plan: CyclePlan) -> Document:
    """Raises `DataError`."""
    try:
        return read_as(_Given, (plan.provenance or {}).get("settings", {}))
    except WrongValueError as error:
        raise DataError(f"{plan_key(plan.cycle)}: damaged provenance (settings.{error})") from error


def _pinned(settings: Mapping[str, Document], annotator: Document) -> dict[str, dict[str, Any]]:
    """The settings of the stages, the LVLM of a hub with the revision that it had."""
    pinned = {stage: dict(values) for stage, values in settings.items()}
    revision = (annotator.get("provenance") or {}).get("lvlm", {}).get("revision", "")
    model = str(pinned.get("annotate", {}).get("model", ""))
    if revision and "@" not in model:
        pinned["annotate"]["model"] = f"{model}@{revision}"
    return pinned


def _overrides(
    preset: str, settings: Mapping[str, Document], trials: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """What must be said beside the preset to get these settings, and which of them this version does not know."""
    known = [name for name in trials if name in RECIPES]
    plan = PlanConfig(
        store="-", shards="-", suite="-" * bool(known), preset=preset, trials=tuple(known), data_only=not known
    )
    now = resolve(plan)[0]
    overrides, unknown = {}, []
    for stage, values in settings.items():
        for name, value in values.items():
            if name in HANDED_ON:
                continue
            if name not in now.get(stage, {}):
                unknown.append(f"setting {stage}.{name} = {value!r}: this version does not know it")
            elif now[stage][name] != value:
                overrides[f"{stage}.{name}"] = value
    return overrides, unknown


def _other_recipes(trials: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for trial in trials:
        recipe = RECIPES.get(trial["name"])
        if recipe is None or recipe.settings != trial["settings"]:
            yield f"recipe {trial['name']}: it was {trial['settings']}; this version has {recipe and recipe.settings}"


def _document(again: Again) -> dict[str, Any]:
    return {
        "cycle": again.cycle,
        "pipeline": _on_cluster(again),
        "local": _here(again),
        "settings": again.settings,
        "missing": list(again.missing),
    }


def _on_cluster(again: Again) -> str:
    launched = ["--launched", again.inputs["launched"]] if again.inputs["launched"] else []
    return _command(again, launched, INPUTS)


def _here(again: Again) -> str:
    """Without the machines of a launch: every stage runs here."""
    return _command(again, ["--local"], [name for name in INPUTS if name != "launch"])


def _command(again: Again, flags: Sequence[str], names: Iterable[str]) -> str:
    words = [word for name in names if again.inputs[name] for word in ("--set", f"{INPUTS[name]}={again.inputs[name]}")]
    alone = ["--config", "none"]  # a project file would bring settings that the cycle had not
    return f"{HEAD} {shlex.join([*flags, *words, *alone])}"
