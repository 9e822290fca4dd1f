"""Flags, a YAML file and a hardware profile in, a `LaunchSpec` out.

The later wins: defaults, the hardware profile, the file's common part, its section for the stage, flags.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hqclip.errors import ConfigError, NotFoundError
from hqclip.launch.profiles import find_profile
from hqclip.launch.spec import LaunchSpec
from hqclip.settings import did_you_mean
from hqclip.stages import STAGES
from hqclip.store import read_uri
from hqclip.strict_yaml import read_yaml


def read_spec(flags: Mapping[str, Any], *, file: str = "", stage: str = "") -> LaunchSpec:
    """The spec for a stage out of defaults, profile, `file` and flags. Raises `ConfigError` with every problem."""
    return (read_machines(file) if file else Machines()).spec(stage, flags)


@dataclass(frozen=True)
class Machines:
    """What a file says: settings for all stages, and those of each stage that has a section; none without a `uri`."""

    uri: str = ""
    common: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def spec(self, stage: str, flags: Mapping[str, Any] | None = None) -> LaunchSpec:
        """That of a stage. Raises `ConfigError` with every problem."""
        written = {**self.common, **self.sections.get(stage, {})}
        given = {**_plain(written), **(flags or {})}
        profile = find_profile(str(given["profile"])) if given.get("profile") else {}
        return LaunchSpec.from_mapping({**_plain(profile), **given}, "launch." if self.uri else "")

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


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain_value(name, value) for name, value in settings.items()}


def _plain_value(name: str, value: Any) -> Any:
    """YAML's own forms as settings have them: mappings as NAME=value, patches as JSON, quantities as text."""
    if name == "patches" and not isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return [f"{key}={_word(item)}" for key, item in value.items()]
    if name in ("cpus", "memory", "shm", "disk", "topology") and isinstance(value, int | float):
        return str(value)
    return value


def _word(value: Any) -> str:
    """A value of YAML as it was written: `true`, not Python's `True`; nothing for nothing."""
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
