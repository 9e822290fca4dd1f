"""Flags, a YAML file and a hardware profile in, a `LaunchSpec` out.

The later wins: defaults, what the platform says of the stage, the hardware profile, the file's common part, its section
for the stage, flags. Over the platform, lists of named things are added to.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hqclip.errors import ConfigError, NotFoundError
from hqclip.launch.layers import layered
from hqclip.launch.plain import plain
from hqclip.launch.profiles import find_profile
from hqclip.launch.spec import LaunchSpec
from hqclip.settings import did_you_mean
from hqclip.stages import STAGES
from hqclip.store import read_uri
from hqclip.strict_yaml import read_yaml


def read_spec(
    flags: Mapping[str, Any], *, file: str = "", stage: str = "", beneath: Mapping[str, Mapping[str, Any]] | None = None
) -> LaunchSpec:
    """The spec for a stage out of defaults, profile, `file` and flags. Raises `ConfigError` with every problem."""
    return (read_machines(file) if file else Machines()).over(beneath or {}).spec(stage, flags)


@dataclass(frozen=True)
class Machines:
    """What a file says: settings for all stages, and those of each stage that has a section; none without a `uri`.

    `beneath` is what a platform says of stages.
    """

    uri: str = ""
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    beneath: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def over(self, beneath: Mapping[str, Mapping[str, Any]]) -> Machines:
        """The same, laid over what a platform says of stages."""
        return dataclasses.replace(self, beneath=beneath)

    def spec(self, stage: str, flags: Mapping[str, Any] | None = None) -> LaunchSpec:
        """That of a stage. Raises `ConfigError` with every problem."""
        written = {**self.common, **self.sections.get(stage, {})}
        where = "launch." if self.uri else ""
        given = {**plain(written, where), **(flags or {})}
        profile = find_profile(str(given["profile"])) if given.get("profile") else {}
        below = plain(profile, f"profile {given.get('profile')}: ")
        return LaunchSpec.from_mapping(layered(self.beneath.get(stage, {}), {**below, **given}), where)

    def specs(self) -> tuple[dict[str, LaunchSpec], list[str]]:
        """That of every stage with a section, and what is wrong with those that have none, a sentence each."""
        specs, problems = {}, []
        for stage in self.sections:
            try:
                specs[stage] = self.spec(stage)
            except ConfigError as error:
                problems += [f"{stage}: {line}" for line in str(error).splitlines()]
        return specs, problems


def read_machines(uri: str) -> Machines:
    """The common part and the sections of a YAML file. Raises `ConfigError`."""
    try:
        written = read_yaml(read_uri(uri), f"launch spec {uri}") or {}
    except NotFoundError as error:
        raise ConfigError(f"launch spec {uri}: {error}") from error
    if not isinstance(written, dict):
        raise ConfigError(f"launch spec {uri}: give settings, `name: value` a line")
    known = {field.name for field in dataclasses.fields(LaunchSpec)}
    sections = {name: part or {} for name, part in written.items() if name in STAGES}
    common = {name: value for name, value in written.items() if name not in sections}
    bad = [name for name, part in sections.items() if not isinstance(part, dict)]
    if bad:
        raise ConfigError(f"launch spec {uri}: the section of {', '.join(bad)} is no mapping of settings")
    unknown = [name for part in (common, *sections.values()) for name in part if name not in known]
    if unknown:
        names = ", ".join(f"{name}{did_you_mean(str(name), [*known, *STAGES])}" for name in unknown)
        raise ConfigError(f"launch spec {uri}: unknown {names}")
    return Machines(uri, common, dict(sorted(sections.items())))
