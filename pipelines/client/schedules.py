"""`python -m pipelines schedule`: recurring runs as a YAML file says; Kubeflow is brought into line with it.

Kubeflow cannot change a recurring run, so one that differs is replaced: the new one is made, switched off; the old one
is switched off, the new one on, the old one deleted. Two are never on at once, and what an apply that was cut off has
begun, the next one finishes. A run that is under way meanwhile goes on (backends before 2.16 end it). None makes up for
missed times but the last, and a schedule starts no second run while its first is under way.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import kfp_server_api

from hqclip.errors import ConfigError, ConflictError, HQClipError, NotFoundError
from hqclip.settings import did_you_mean
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.cron import Every, parse_cron
from pipelines.client.find import our_names
from pipelines.client.inputs import definitions, missing, typed
from pipelines.client.output import say, say_next, show
from pipelines.client.patience import created
from pipelines.client.runs import ensure_experiment
from pipelines.client.schedule_file import LATEST, Schedule, as_text, read_file
from pipelines.client.versions import find_version

_OURS = re.compile(r"^managed by `python -m pipelines schedule`, group (?P<group>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """A recurring run that Kubeflow has; `group` is empty for one that is not ours."""

    id: str
    schedule: Schedule
    group: str
    made: datetime | None


@dataclass(frozen=True)
class Change:
    """What is to be done about one name: create, replace, enable, disable, delete, or nothing."""

    name: str
    action: str
    differences: tuple[str, ...] = ()
    wanted: Schedule | None = None
    found: tuple[Found, ...] = ()

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
        if name == "diff":
            verb.add_argument("--exit-code", action="store_true", help="end with 1 if there is a difference")
    listed = verbs.add_parser("list", help="recurring runs of ours, with the next times they fire", allow_abbrev=False)
    listed.add_argument("--all", action="store_true", help="those of others as well, below")
    changes = {
        "pause": "switch off; the next apply switches on again what the file wants on",
        "resume": "switch on; a missed time is made up for at once, one only",
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
        group, wanted = read_file(given.file)
        for schedule in wanted:
            if schedule.has_ended(now):
                say(f"schedule {schedule.name}: its end, {schedule.end}, has passed; it fires no more")
        kubeflow = connect.connect(given)
        changes = compare(kubeflow, group, wanted, prune=given.prune)
        if given.action == "apply":
            for change in changes:
                carry_out(kubeflow, group, change)
        _show([change.row(now) for change in changes], given.output)
        differ = sum(change.action != "none" for change in changes)
        say(f"{differ} of {len(changes)} {'changed' if given.action == 'apply' else 'differ'}")
        return int(given.action == "diff" and given.exit_code and differ > 0)
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
        {"pause": _disable, "resume": _enable, "delete": _delete}[given.action](kubeflow, found.id)
        say(f"{given.action}d {found.schedule.name} ({found.id})")
    say_next(kubeflow.command("schedule", "list"))
    return 0


def _show(rows: Sequence[dict[str, Any]], form: str) -> None:
    """As a table for people: times in one line, differences below it, a line each."""
    if form != "table":
        show(rows, form)
        return
    plain = [{**row, "next": ", ".join(moment.removesuffix(":00Z") for moment in row["next"])} for row in rows]
    show([{name: value for name, value in row.items() if name != "differences"} for row in plain])
    for row in rows:
        for difference in row.get("differences", ()):
            print(f"{row['name']}: {difference}")


def compare(kubeflow: Kubeflow, group: str, wanted: Sequence[Schedule], *, prune: bool) -> list[Change]:
    """What has to be done, name by name. Raises `ConfigError` with all inputs that do not fit, `ConflictError`."""
    there = list(find_all(kubeflow))
    changes, problems = [], []
    for schedule in wanted:
        try:
            checked = replace(schedule, inputs=_checked_inputs(kubeflow, schedule))
            changes.append(_change(checked, group, [f for f in there if f.schedule.name == schedule.name]))
        except (ConfigError, NotFoundError) as error:
            problems.append(f"schedule {schedule.name}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
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
            _delete(kubeflow, found.id)
        return
    kept = next((found for found in change.found if not wanted.differences(found.schedule)), None)
    stale = [found for found in change.found if found is not kept]
    identity = kept.id if kept else _create(kubeflow, group, wanted, {found.id for found in change.found})
    for found in stale:
        if found.schedule.enabled:
            _disable(kubeflow, found.id)
    if wanted.enabled != (kept.schedule.enabled if kept else False):
        (_enable if wanted.enabled else _disable)(kubeflow, identity)
    for found in stale:
        _delete(kubeflow, found.id)


def find_all(kubeflow: Kubeflow) -> Iterator[Found]:
    """Every recurring run of the namespace."""
    client, namespace = kubeflow.client, kubeflow.namespace or None
    experiments = {
        e.experiment_id: e.display_name for e in pages(client.list_experiments, "experiments", namespace=namespace)
    }
    pipelines = {p.pipeline_id: p.display_name for p in pages(client.list_pipelines, "pipelines", namespace=namespace)}
    for row in pages(client.list_recurring_runs, "recurring_runs", namespace=namespace, sort_by="created_at asc"):
        if row.error or not row.trigger:
            say(f"recurring run {row.recurring_run_id} cannot be read: {row.error and row.error.message}")
            continue
        reference = row.pipeline_version_reference
        trigger = row.trigger.cron_schedule or row.trigger.periodic_schedule
        is_cron = row.trigger.cron_schedule is not None
        about = row.description or ""
        match = _OURS.search(about)
        yield Found(
            row.recurring_run_id,
            Schedule(
                name=row.display_name,
                pipeline=pipelines.get(reference.pipeline_id, reference.pipeline_id) if reference else "(a package)",
                version=_version_name(client, reference),
                when=trigger.cron if is_cron else f"@every {trigger.interval_second}s",
                inputs=dict((row.runtime_config.parameters if row.runtime_config else None) or {}),
                experiment=experiments.get(row.experiment_id, row.experiment_id or ""),
                start=as_text(trigger.start_time),
                end=as_text(trigger.end_time),
                service_account=row.service_account or "",
                description=_OURS.sub("", about).strip(),
                enabled=row.status == "ENABLED",
            ),
            match["group"] if match else "",
            row.created_at,
        )


def _checked_inputs(kubeflow: Kubeflow, schedule: Schedule) -> dict[str, Any]:
    """Inputs as the version's types ask, by the YAML that Kubeflow has. Raises `ConfigError`, `NotFoundError`."""
    version = find_version(kubeflow, schedule.pipeline, schedule.version)
    known = definitions(version.pipeline_spec or {})
    problems, inputs = [], {}
    for name, (text, value) in schedule.inputs.items():
        if name not in known:
            problems.append(f"unknown input {name!r}{did_you_mean(name, known)}; one of {', '.join(sorted(known))}")
            continue
        try:
            inputs[name] = typed(name, known[name], text, value)
        except ConfigError as error:
            problems.append(str(error))
    texts = {name: text for name, (text, _) in schedule.inputs.items()}
    problems += [f"input {name} is missing" for name in missing(known, texts)]
    if problems:
        raise ConfigError("; ".join(problems))
    return inputs


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


def _create(kubeflow: Kubeflow, group: str, wanted: Schedule, before: Collection[str]) -> str:
    """Make it, switched off; its id. `before` are those of the same name."""
    client = kubeflow.client
    version = find_version(kubeflow, wanted.pipeline, wanted.version)
    pinned = {} if wanted.version == LATEST else {"pipeline_version_id": version.pipeline_version_id}
    times = {"start_time": wanted.start or None, "end_time": wanted.end or None}
    when = parse_cron(wanted.when)
    trigger = (
        {"periodic_schedule": kfp_server_api.V2beta1PeriodicSchedule(interval_second=str(when.seconds), **times)}
        if isinstance(when, Every)
        else {"cron_schedule": kfp_server_api.V2beta1CronSchedule(cron=wanted.when, **times)}
    )
    marked = f"{wanted.description}\n\n" if wanted.description else ""
    body = kfp_server_api.V2beta1RecurringRun(
        display_name=wanted.name,
        description=f"{marked}managed by `python -m pipelines schedule`, group {group}",
        experiment_id=ensure_experiment(kubeflow, wanted.experiment),
        pipeline_version_reference=kfp_server_api.V2beta1PipelineVersionReference(
            pipeline_id=version.pipeline_id, **pinned
        ),
        runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(wanted.inputs)),
        trigger=kfp_server_api.V2beta1Trigger(**trigger),
        mode="DISABLE",
        no_catchup=True,
        max_concurrency="1",
        service_account=wanted.service_account or None,
    )

    def made() -> str | None:
        named = (found.id for found in find_all(kubeflow) if found.schedule.name == wanted.name)
        return next((identity for identity in named if identity not in before), None)

    service = client._recurring_run_api
    return str(
        created(lambda: service.recurring_run_service_create_recurring_run(recurring_run=body).recurring_run_id, made)
    )


def _version_name(client: Any, reference: Any) -> str:
    if reference is None or not reference.pipeline_version_id:
        return LATEST
    try:
        return str(client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id).display_name)
    except HQClipError:
        return str(reference.pipeline_version_id)  # it was deleted


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


def _enable(kubeflow: Kubeflow, identity: str) -> None:
    kubeflow.client.enable_recurring_run(identity)


def _disable(kubeflow: Kubeflow, identity: str) -> None:
    kubeflow.client.disable_recurring_run(identity)


def _delete(kubeflow: Kubeflow, identity: str) -> None:
    """Delete it; a run it has started belongs to nobody then, and goes on."""
    service = kubeflow.client._recurring_run_api
    service.recurring_run_service_delete_recurring_run(identity, propagation_policy="ORPHAN")
