"""A YAML file in, the schedules it asks for out. Every value is taken as it is written: version 1.10 is no 1.1."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hqclip.errors import ConfigError, NotFoundError
from hqclip.settings import did_you_mean
from hqclip.strict_yaml import read_yaml
from pipelines.client.cron import Every, closest, fire_times, parse_cron, parse_interval
from pipelines.client.inputs import as_given
from pipelines.client.runs import EXPERIMENT, account_of
from pipelines.client.versions import Package, follows_channel, kubeflow_name, our_names, read_package
from pipelines.compiling import PIPELINES
from pipelines.lines import STABLE, split_channel

LATEST = "latest"
SHOWN = 3  # next times
SHORTEST_S = 60  # between two of them: less is a slip
KNOWN = (
    *("name", "description", "pipeline", "version", "cron", "every", "start", "end", "enabled"),
    *("inputs", "experiment", "service_account", "platform", "launched"),
)
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?").fullmatch


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """One recurring run as it is wanted, or as it is. `when` is a cron expression or `@every 3600s`.

    `version` is pinned, or what it follows: a channel, of another's pipeline `latest`.
    `package` is what it runs if that is compiled here, for a platform; `version` is then what it is called.
    """

    name: str
    pipeline: str
    version: str
    when: str
    inputs: Mapping[str, Any] = field(default_factory=dict)
    experiment: str = EXPERIMENT
    start: str = ""
    end: str = ""
    service_account: str = ""
    description: str = ""
    enabled: bool = True
    package: Package | None = None

    @property
    def follows(self) -> bool:
        """Whether what it runs changes without it."""
        return self.version == LATEST or follows_channel(self.pipeline, self.version)

    def differences(self, now: Schedule) -> list[str]:
        """What would have to change in the one that is there, beside being switched on or off."""
        names = ["pipeline", "version", "when", "experiment", "end", "description"]
        names += ["service_account"] if self.service_account else []  # else Kubeflow's own choice is as good
        pairs = {name: (getattr(now, name), getattr(self, name)) for name in names}
        today = datetime.now(UTC)
        if now.when != self.when or now.counts_from(today) != self.counts_from(today):
            pairs["start"] = now.start, self.start
        for name in sorted({*now.inputs, *self.inputs}):
            pairs[f"inputs.{name}"] = now.inputs.get(name, ""), self.inputs.get(name, "")
        return [f"{name}: {_shown(then)} -> {_shown(own)}" for name, (then, own) in pairs.items() if then != own]

    def counts_from(self, now: datetime) -> str:
        """The start as Kubeflow is told it: of one that has passed an interval keeps the rhythm, a cron nothing.

        Times between a start and now would be taken for missed ones, and the last of them started at once.
        """
        start, when = read_time(self.start, "start"), parse_cron(self.when)
        if start is None or start > now:
            return self.start
        if not isinstance(when, Every):
            return ""
        passed = (now - start).total_seconds() // when.seconds
        return as_text(datetime.fromtimestamp(start.timestamp() + passed * when.seconds, UTC))

    def has_ended(self, now: datetime) -> bool:
        """Whether it fires no more, although it is on."""
        end = read_time(self.end, "end")
        return self.enabled and end is not None and end <= now

    def next_times(self, now: datetime, since: datetime | None = None) -> list[str]:
        """The next times it fires, none if it is off. An interval is counted from when it was made, or its start."""
        if not self.enabled:
            return []
        start, end = read_time(self.start, "start"), read_time(self.end, "end")
        when = parse_cron(self.when)
        after = max(filter(None, (now, start)))
        begun = start or since
        if isinstance(when, Every) and begun is not None and begun < now:
            passed = (now - begun).total_seconds() // when.seconds
            after = datetime.fromtimestamp(begun.timestamp() + passed * when.seconds, UTC)
        return [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in fire_times(when, after, SHOWN, end)]


def read_file(path: Path, platform: str = "") -> tuple[str, list[Schedule]]:
    """The group and its schedules; `platform` is for those that name neither a version nor one of their own.

    Raises `ConfigError` with everything that is wrong with the file.
    """
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"{path}: there is no such file; docs/examples/schedule.yaml is one") from None
    except (OSError, ValueError) as error:  # ValueError: no text
        raise ConfigError(f"{path}: {error}") from error
    written, meant = read_yaml(source, str(path), as_written=True), read_yaml(source, str(path))
    if not isinstance(written, dict) or not set(written) <= {"schedules", "group"}:
        raise ConfigError(f"{path}: give `schedules:` with a list, and `group:` if there are several such files")
    listed = written.get("schedules")
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ConfigError(f"{path}: `schedules` must be a list, each with name, pipeline and cron or every")
    schedules, problems = [], []
    for entry, values in zip(listed, meant["schedules"], strict=True):
        try:
            schedules.append(_read(_placed(entry, path.parent, platform), values))
        except (ConfigError, NotFoundError) as error:
            problems.append(f"{path}: schedule {entry.get('name', '?')}: {error}")
    names = [schedule.name for schedule in schedules]
    problems += [f"{path}: schedule {name} is there twice" for name in sorted({n for n in names if names.count(n) > 1})]
    group = str(written.get("group", "default"))
    if not _NAME(group):
        problems.append(f"{path}: group is {group!r}; give a-z, 0-9 and dashes")
    if problems:
        raise ConfigError("\n".join(problems))
    return group, schedules


def read_time(text: str, name: str) -> datetime | None:
    """A time with its zone, None if there is none. Raises `ConfigError`."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigError(f"{name} is {text!r}; give a time with its zone, such as 2026-12-01T00:00:00Z")
    return moment.astimezone(UTC)


def as_text(moment: Any) -> str:
    """As it is compared: UTC, whole seconds. Kubeflow says 1970 for none."""
    if moment is None or moment.year == 1970:
        return ""
    return str(moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _shown(value: Any) -> str:
    return "-" if value == "" else str(value)


def _placed(entry: Mapping[str, Any], folder: Path, platform: str) -> Mapping[str, Any]:
    """The entry with the platform that it has: its own, whose path counts from the file's folder, or that for all."""
    if isinstance(entry.get("platform"), str) and entry["platform"]:
        return {**entry, "platform": str(folder / entry["platform"])}
    if platform and not entry.get("version") and entry.get("pipeline") in PIPELINES:
        return {**entry, "platform": platform}
    return entry


def _read(entry: Mapping[str, Any], values: Mapping[str, Any]) -> Schedule:
    """One schedule of the file; inputs are still (what is written, what that means). Raises `ConfigError`."""
    entry = {name: "" if value in ("null", "~") else value for name, value in entry.items()}
    unknown = [f"unknown {name!r}{did_you_mean(name, KNOWN)}" for name in entry if name not in KNOWN]
    missing = [f"{name} is missing" for name in ("name", "pipeline") if not entry.get(name)]
    problems = unknown + missing
    nested = [name for name, value in entry.items() if name != "inputs" and not isinstance(value, str)]
    problems += [f"{name} is {entry[name]!r}; give a single value" for name in nested]
    if bool(entry.get("cron")) == bool(entry.get("every")):
        problems.append("give one of cron and every")
    if problems:
        raise ConfigError("; ".join(problems))
    if not _NAME(entry["name"]):
        raise ConfigError("name: give up to 63 of a-z, 0-9 and dashes, a letter first")
    if (entry.get("enabled") or "true").lower() not in ("true", "false"):
        raise ConfigError(f"enabled is {entry['enabled']!r}; give true or false")
    times = parse_cron(entry["cron"].strip()) if entry.get("cron") else Every(parse_interval(entry["every"].strip()))
    when = f"@every {times.seconds}s" if isinstance(times, Every) else " ".join(entry["cron"].split())
    if (apart := closest(times)) < SHORTEST_S:
        better = "give 60s or more" if isinstance(times, Every) else "seconds come first: give 0"
        raise ConfigError(f"{when!r} fires every {apart} s; {better}")
    try:
        inputs = as_given(entry.get("inputs") or {}, values.get("inputs") or {})
    except ConfigError as error:
        raise ConfigError(f"inputs: {error}") from error
    package, account = _compiled(entry)
    pipeline = kubeflow_name(entry["pipeline"])
    texts = {"service_account": account} if account else {}
    texts |= {name: entry[name].strip() for name in ("experiment", "service_account", "description") if entry.get(name)}
    return Schedule(
        name=entry["name"],
        pipeline=pipeline,
        version=package.version if package else _version(pipeline, entry.get("version", "")),
        package=package,
        when=when,
        inputs=inputs,
        start=as_text(read_time(entry.get("start", ""), "start")),
        end=as_text(read_time(entry.get("end", ""), "end")),
        enabled=(entry.get("enabled") or "true").lower() == "true",
        **texts,
    )


def _version(pipeline: str, version: str) -> str:
    """What a schedule runs; of our pipelines none follows what was only tried. Raises `ConfigError`."""
    ours = our_names()
    name, channel = split_channel(pipeline, ours)
    if channel:
        raise ConfigError(f"pipeline {pipeline} is a channel: give `pipeline: {name}` and `version: {channel}`")
    if pipeline not in ours:
        return version or LATEST
    if version == LATEST:
        raise ConfigError(
            f"version: {LATEST} is whatever was tried last; give `version: {STABLE}`, which is what "
            "`python -m pipelines promote-version` puts in force, a line's channel, or the name of a version"
        )
    return version or STABLE


def _compiled(entry: Mapping[str, Any]) -> tuple[Package | None, str]:
    """What one with a platform runs, and the account that the platform names. Raises `ConfigError`."""
    platform, launched = entry.get("platform", ""), entry.get("launched", "")
    if not platform:
        if launched:
            raise ConfigError("launched goes with platform: a version is launched or not as it was compiled")
        return None, ""
    if entry.get("version"):
        raise ConfigError("give one of version and platform: with a platform it runs what compiles here")
    if entry["pipeline"] not in PIPELINES:
        raise ConfigError(f"platform is for pipelines that are compiled here: {', '.join(PIPELINES)}")
    return read_package(entry["pipeline"], launched, platform=platform), account_of(platform)
