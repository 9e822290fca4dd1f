"""Preset, own settings and overrides in; settings of stages and their machines out, with all that is wrong at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from hqclip.config import PlanConfig, PlanEvaluationConfig, SweepConfig
from hqclip.cycle.foreseen import refused_later
from hqclip.errors import ConfigError
from hqclip.launch.resolve import plan_machines
from hqclip.launch.spec import LaunchSpec
from hqclip.presets import find_preset
from hqclip.settings import did_you_mean, read_overrides
from hqclip.stages import CYCLE, HANDED_ON, STAGES, TRAINING

LATER = "(from an earlier stage)"
Problems = list[str]


def resolve_settings(
    work: str, preset: str, own: Mapping[str, Mapping[str, Any]], overrides: str = ""
) -> tuple[dict[str, dict[str, Any]], Problems]:
    """Settings of the stages that `own` names, defaults filled in, and what is wrong with those that are left out.

    The overrides win over `own`, and that over the preset. `work` says what it is for: a cycle, a sweep. Raises
    `ConfigError` if there is no such preset, or the overrides are not JSON.
    """
    named = find_preset(preset)
    given = {stage: {**named.get(stage, {}), **values} for stage, values in own.items()}
    problems: Problems = []
    for name, value in read_overrides(overrides).items():
        stage, _, setting = name.partition(".")
        if stage not in CYCLE:
            problems.append(f"unknown stage in override {name!r}{did_you_mean(stage, given)}")
        elif stage not in given:
            problems.append(f"override {name!r}: a {work} has settings of {' and '.join(given)} only")
        elif setting in HANDED_ON:
            problems.append(f"override {name!r}: the {work} sets this itself")
        else:
            given[stage][setting] = value
    settings = {}
    for stage, values in given.items():
        try:
            settings[stage] = complete(stage, values)
        except ConfigError as error:
            problems.append(str(error))
    return settings, [*problems, *refused_later(settings)]


def resolve_machines(
    config: PlanConfig | SweepConfig | PlanEvaluationConfig, settings: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The launch spec of every stage that has one. Raises `ConfigError` if one does not fit its stage or is missed."""
    without = TRAINING if isinstance(config, PlanConfig) and config.data_only else ()
    known = {stage: {**values, "store": config.store} for stage, values in settings.items() if stage not in without}
    return plan_machines(config.launch, known, config.launched, config.workers, without)


def ranks_of(machines: Mapping[str, Any] | None) -> int:
    """How many processes train or judge together by a launch spec; without one it is the task alone."""
    if not machines:
        return 1
    spec = LaunchSpec.from_mapping(machines, "launch.")
    return spec.nodes * spec.processes


def complete(stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the settings of one stage; what other stages will say is left out. Raises `ConfigError`."""
    all_given = with_later(stage, given)
    checked = STAGES[stage].settings.from_mapping(all_given, f"{stage}.").to_mapping()
    return {name: value for name, value in checked.items() if name in given or name not in all_given}


def with_later(stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one stage, with something in the place of what other stages will say."""
    fields = dataclasses.fields(STAGES[stage].settings)
    later = {f.name for f in fields if f.default is dataclasses.MISSING and f.name not in given}
    return {**given, **dict.fromkeys(later, LATER)}
