"""`python -m pipelines schedule`: recurring runs as a YAML file says; Kubeflow is brought into line with it.

Kubeflow cannot change a recurring run, so one that differs is replaced: the new one is made, switched off; the old one
is switched off, the new one on, the old one deleted. Two are never on at once, and what an apply that was cut off has
begun, the next one finishes. A run that is under way meanwhile goes on (backends before 2.16 end it). None makes up for
what it missed while it was off, and a schedule starts no second run while its first is under way.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hqclip.deprecated import INPUT, current
from hqclip.errors import ConfigError, ConflictError, HQClipError, NotFoundError
from hqclip.settings import did_you_mean
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow
from pipelines.client.inputs import definitions, missing, read_said, typed
from pipelines.client.output import say, say_next, show
from pipelines.client.recurring import Found, create, delete, disable, enable, find_all, resume
from pipelines.client.runs import add_budget_arguments, budget_inputs
from pipelines.client.schedule_file import LATEST, Schedule, read_file
from pipelines.client.settings import check_run
from pipelines.client.versions import check_images, ensure_uploaded, find_content, find_version, our_names
from pipelines.compiling import add_platform_argument, add_tags_argument

SCHEDULED = "{{$.pipeline_job_schedule_time_utc}}"
_PLACEHOLDER = re.compile(r"\{\{[^}]*\}\}|\[\[[A-Za-z]+(\.[^\]]*)?\]\]")


@dataclass(frozen=True)
class Change:
    """What is to be done about one name: create, replace, enable, disable, delete, none; refused, for its `fault`."""

    name: str
    action: str
    differences: tuple[str, ...] = ()
    wanted: Schedule | None = None
    found: tuple[Found, ...] = ()
    fault: HQClipError | None = None

    def row(self, now: datetime) -> dict[str, Any]:
        """As it is shown."""
        since = self.found[0].made if self.found and self.action != "replace" else None  # a new one begins anew
        times = self.wanted.next_times(now, since) if self.wanted else []
        return {"name": self.name, "action": self.action, "differences": list(self.differences), "next": times}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb's own verbs."""
    verbs = parser.add_subparsers(dest="action", required=True)
    for name, about in (("diff", "what apply would do"), ("apply", "make Kubeflow's schedules those of the file")):
        verb = verbs.add_parser(name, help=about, allow_abbrev=False)
        verb.add_argument("file", type=Path, help="YAML file, see docs/examples/schedule.yaml")
        verb.add_argument("--prune", action="store_true", help="delete those of the file's group that it lacks")
        add_platform_argument(verb)
        add_tags_argument(verb)
        add_budget_arguments(verb)
        if name == "diff":
            verb.add_argument("--exit-code", action="store_true", help="end with 1 if there is a difference")
    listed = verbs.add_parser("list", help="recurring runs of ours, with the next times they fire", allow_abbrev=False)
    listed.add_argument("--all", action="store_true", help="those of others as well, below")
    changes = {
        "pause": "switch off; the next apply switches on again what the file wants on",
        "resume": "switch on, from the next time on: what was missed is not made up for",
        "delete": "delete; a run that goes on goes on",
    }
    for name, about in changes.items():
        verb = verbs.add_parser(name, help=about, allow_abbrev=False)
        verb.add_argument("names", nargs="+", metavar="NAME", help="name or id")
    for verb in verbs.choices.values():
        output.add_arguments(verb)
        connect.add_arguments(verb)


def run(given: argparse.Namespace) -> int:
    """Do what is asked; the exit code."""
    now = datetime.now(UTC)
    if given.action in ("diff", "apply"):
        return _by_file(given, now)
    kubeflow = connect.connect(given)
    there = list(find_all(kubeflow))
    if given.action == "list":
        own = [found for found in there if found.group or found.schedule.pipeline in our_names()]
        others = [found for found in there if found not in own]
        shown = [*own, *others] if given.all else own
        _show([_listed(found, now) for found in shown], given.output)
        if others and not given.all:
            say(f"{len(others)} of others are not shown (--all)")
        return 0
    for found in [_named(there, name) for name in given.names]:
        identity = found.id
        if given.action == "resume":
            identity = resume(kubeflow, found)
        else:
            {"pause": disable, "delete": delete}[given.action](kubeflow, found.id)
        say(f"{given.action}d {found.schedule.name} ({identity})")
    say_next(kubeflow.command("schedule", "list"))
    return 0


def _by_file(given: argparse.Namespace, now: datetime) -> int:
    """Compare, and with `apply` carry out; nothing of it where something is wrong. Raises what `_refusal` makes."""
    group, wanted = read_file(given.file, given.platform)
    for package in (schedule.package for schedule in wanted if schedule.package):
        check_images(package, tags_too=given.allow_tags)
    limits = read_said(budget_inputs(given))
    wanted = [replace(schedule, inputs={**schedule.inputs, **limits}) for schedule in wanted]
    for schedule in wanted:
        if schedule.has_ended(now):
            say(f"schedule {schedule.name}: its end, {schedule.end}, has passed; it fires no more")
    kubeflow = connect.connect(given)
    wanted = [_as_uploaded(kubeflow, schedule) for schedule in wanted]
    changes = compare(kubeflow, group, wanted, prune=given.prune)
    refused = [change for change in changes if change.fault is not None]
    if given.action == "apply" and not refused:
        for change in changes:
            if change.wanted and change.wanted.package:
                ensure_uploaded(kubeflow, change.wanted.package)
            carry_out(kubeflow, group, change)
    _show([change.row(now) for change in changes], given.output)
    if refused:
        raise _refusal(refused, len(changes))
    differ = sum(change.action != "none" for change in changes)
    say(f"{differ} of {len(changes)} {'changed' if given.action == 'apply' else 'differ'}")
    for change in changes:
        if change.wanted and change.action in ("create", "replace", "enable"):
            say(f"{change.name}: {_meaning(change.wanted)}")
    return int(given.action == "diff" and given.exit_code and differ > 0)


def _refusal(refused: Sequence[Change], number: int) -> HQClipError:
    """All faults in one, of the kind that they have in common."""
    kinds = {type(change.fault) for change in refused}
    lines = [f"schedule {change.name}: {change.fault}" for change in refused]
    told = f"{len(refused)} of {number} schedules are wrong, and nothing was changed" if number > len(refused) else ""
    kind = ConflictError if kinds == {ConflictError} else ConfigError
    return kind("\n".join(filter(None, [*lines, told])))


def _meaning(schedule: Schedule) -> str:
    """What one that is on does, in a sentence."""
    if schedule.follows:
        newest = "newest" if schedule.version == LATEST else f"in force in {schedule.version}"
        return (
            f"not pinned: each run takes the version that is {newest} then; a time that comes while its last run goes "
            "on is left out"
        )
    return (
        f"pinned to {schedule.version}: newer versions do not change it; a time that comes while its last run goes on "
        "waits for its end, the last one if there are several"
    )


def _show(rows: Sequence[dict[str, Any]], form: str) -> None:
    """As a table for people, times in one line; differences below it, a line each."""
    if form != "table":
        show(rows, form)
        return
    show([_brief(row) if "id" in row else _changed(row) for row in rows])
    for row in rows:
        for difference in row.get("differences", ()):
            print(f"{row['name']}: {difference}")


def _changed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": row["name"], "action": row["action"], "next": ", ".join(map(_minute, row["next"]))}


def _brief(row: Mapping[str, Any]) -> dict[str, Any]:
    """Of one that is listed what fits a terminal; JSON and YAML have all of it."""
    following = _minute(row["next"][0]) if row["next"] else "-"
    return {
        "name": row["name"],
        "pipeline": row["pipeline"].removeprefix("hqclip-"),
        "version": row["version"],
        "when": row["when"],
        "next_time": following if row["enabled"] else "off",  # may be a long complaint, which `next` would not cut
        "group": row["group"],
        "id": row["id"],
    }


def _minute(moment: str) -> str:
    return moment.removesuffix(":00Z")


def compare(kubeflow: Kubeflow, group: str, wanted: Sequence[Schedule], *, prune: bool) -> list[Change]:
    """What has to be done, name by name; what cannot be done is refused, and hides nothing of the others."""
    there = list(find_all(kubeflow))
    changes = []
    for schedule in wanted:
        try:
            checked = replace(schedule, inputs=checked_inputs(kubeflow, schedule))
            changes.append(_change(checked, group, [f for f in there if f.schedule.name == schedule.name]))
        except (ConfigError, NotFoundError, ConflictError) as error:
            changes.append(Change(schedule.name, "refused", (str(error),), fault=error))
    names = {schedule.name for schedule in wanted}
    for found in there:
        if found.group == group and found.schedule.name not in names:
            why = ("the file has it no more",) if prune else ("the file has it no more; --prune deletes it",)
            changes.append(Change(found.schedule.name, "delete" if prune else "none", why, found=(found,)))
    return changes


def carry_out(kubeflow: Kubeflow, group: str, change: Change) -> None:
    """Do it. What was begun by an apply that was cut off is found, and gone on with."""
    wanted = change.wanted
    if change.action == "none":
        return
    if wanted is None:
        for found in change.found:
            delete(kubeflow, found.id)
        return
    kept = next((found for found in change.found if not wanted.differences(found.schedule)), None)
    stale = [found for found in change.found if found is not kept]
    identity = kept.id if kept else create(kubeflow, group, wanted, {found.id for found in change.found})
    for found in stale:
        if found.schedule.enabled:
            disable(kubeflow, found.id)
    if wanted.enabled and kept is None:
        enable(kubeflow, identity)
    elif wanted.enabled and kept is not None and not kept.schedule.enabled:
        resume(kubeflow, kept)
    elif not wanted.enabled and kept is not None and kept.schedule.enabled:
        disable(kubeflow, kept.id)
    for found in stale:
        delete(kubeflow, found.id)


def checked_inputs(kubeflow: Kubeflow, schedule: Schedule) -> dict[str, Any]:
    """Inputs as the version's types ask, by the YAML that Kubeflow has. Raises `ConfigError`, `NotFoundError`."""
    spec, release = _spec(kubeflow, schedule)
    known = definitions(spec)
    problems, inputs = [], {}
    given = {current(INPUT, name, known): said for name, said in schedule.inputs.items()}
    for name, (text, value) in given.items():
        if name not in known:
            problems.append(f"unknown input {name!r}{did_you_mean(name, known)}; one of {', '.join(sorted(known))}")
            continue
        try:
            inputs[name] = typed(name, known[name], text, value)
        except ConfigError as error:
            problems.append(str(error))
    texts = {name: text for name, (text, _) in given.items()}
    for name, text in texts.items():
        problems += _placeholders(name, text, schedule)
    problems += [f"input {name} is missing" for name in missing(known, texts)]
    if problems:
        raise ConfigError("; ".join(problems))
    check_run(schedule.pipeline, release, spec, inputs)
    return inputs


def _as_uploaded(kubeflow: Kubeflow, schedule: Schedule) -> Schedule:
    """One that is compiled here, by the name that Kubeflow has for the same content, if it has it."""
    if schedule.package is None:
        return schedule
    there = find_content(kubeflow, schedule.package)
    return replace(schedule, version=str(there.name)) if there is not None else schedule


def _spec(kubeflow: Kubeflow, schedule: Schedule) -> tuple[Mapping[str, Any], str]:
    """What it runs, and what that version is called. Raises `NotFoundError`."""
    if schedule.package is not None:
        return schedule.package.spec, schedule.version
    version = find_version(kubeflow, schedule.pipeline, schedule.version)
    return version.pipeline_spec or {}, str(version.name)


def _placeholders(name: str, text: str, schedule: Schedule) -> list[str]:
    """What Kubeflow would hand on as it is written: all placeholders but one, and that where a version is pinned."""
    if not _PLACEHOLDER.search(text) or (text == SCHEDULED and not schedule.follows):
        return []
    if text == SCHEDULED:
        return [f"input {name} is {text}, which is the time that was meant only where the version is pinned"]
    return [f"input {name} is {text!r}: no such placeholder is filled in; only {SCHEDULED}, with a pinned version"]


def _change(wanted: Schedule, group: str, there: Sequence[Found]) -> Change:
    """What to do about a name. Raises `ConflictError` if it stands for one that is not this group's."""
    foreign = [found for found in there if found.group != group]
    if foreign:
        owner = f"of the group {foreign[0].group}" if foreign[0].group else "that was made otherwise"
        raise ConflictError(
            f"there is a recurring run {wanted.name} {owner} ({foreign[0].id}); give another name, or delete that one "
            f"first: python -m pipelines schedule delete {foreign[0].id}"
        )
    if not there:
        return Change(wanted.name, "create", wanted=wanted)
    differences = wanted.differences(there[-1].schedule)
    if len(there) > 1:
        differences.append(f"there are {len(there)} of this name")
    if differences:
        action = "replace"
    elif wanted.enabled != there[0].schedule.enabled:
        action = "enable" if wanted.enabled else "disable"
    else:
        action = "none"
    return Change(wanted.name, action, tuple(differences), wanted, tuple(there))


def _named(there: Sequence[Found], name: str) -> Found:
    """The one of this name or id. Raises `NotFoundError`, and `ConflictError` if several bear the name."""
    found = [one for one in there if name in (one.id, one.schedule.name)]
    if not found:
        names = [one.schedule.name for one in there]
        raise NotFoundError(f"there is no recurring run {name!r}{did_you_mean(name, names)}; `schedule list` has them")
    if len(found) > 1:
        raise ConflictError(
            f"{len(found)} recurring runs are called {name}: give an id, {' or '.join(f.id for f in found)}"
        )
    return found[0]


def _listed(found: Found, now: datetime) -> dict[str, Any]:
    one = found.schedule
    try:
        times = one.next_times(now, found.made)
    except ConfigError as error:
        times = [str(error)]
    about = {"pipeline": one.pipeline, "version": one.version, "when": one.when, "enabled": one.enabled}
    return {
        "name": one.name,
        **about,
        "experiment": one.experiment,
        "group": found.group,
        "next": times,
        "id": found.id,
    }
