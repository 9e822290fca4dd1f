"""Kubeflow's recurring runs: those that are there, one that is made, switched on and off, deleted.

What Kubeflow's controller does (2.17): the first time counts from when a recurring run was made, or from its start if
it has one; every further one from the last. One that was due while it was off, or before it was made, is started within
ten seconds of switching it on, `no_catchup` or not: the last of several. So none is switched on here that may have
missed a time: a new one, which has missed nothing, takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import kfp_server_api

from hqclip.errors import ConfigError
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.cron import Every, parse_cron
from pipelines.client.output import say
from pipelines.client.patience import created
from pipelines.client.runs import ensure_experiment
from pipelines.client.schedule_file import LATEST, Schedule, as_text
from pipelines.client.versions import find_version, our_names, version_name
from pipelines.lines import split_channel

_OURS = re.compile(r"^managed by `python -m pipelines schedule`, group (?P<group>\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Found:
    """A recurring run that Kubeflow has; `group` is empty for one that is not ours."""

    id: str
    schedule: Schedule
    group: str
    made: datetime | None


def find_all(kubeflow: Kubeflow) -> Iterator[Found]:
    """Every recurring run of the namespace."""
    client, namespace = kubeflow.client, kubeflow.namespace or None
    experiments = {
        e.experiment_id: e.display_name for e in pages(client.list_experiments, "experiments", namespace=namespace)
    }
    pipelines = {p.pipeline_id: p.name for p in pages(client.list_pipelines, "pipelines", namespace=namespace)}
    for row in pages(client.list_recurring_runs, "recurring_runs", namespace=namespace, sort_by="created_at asc"):
        if row.error or not row.trigger:
            say(f"recurring run {row.recurring_run_id} cannot be read: {row.error and row.error.message}")
            continue
        reference = row.pipeline_version_reference
        trigger = row.trigger.cron_schedule or row.trigger.periodic_schedule
        is_cron = row.trigger.cron_schedule is not None
        about = row.description or ""
        match = _OURS.search(about)
        pipeline, version = _followed(kubeflow, reference, pipelines)
        yield Found(
            row.recurring_run_id,
            Schedule(
                name=row.display_name,
                pipeline=pipeline,
                version=version,
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


def create(kubeflow: Kubeflow, group: str, wanted: Schedule, before: Collection[str]) -> str:
    """Make it, switched off; its id. `before` are those of the same name."""
    client = kubeflow.client
    version = find_version(kubeflow, wanted.pipeline, wanted.version)
    pinned = {} if wanted.follows else {"pipeline_version_id": version.pipeline_version_id}
    times = {"start_time": wanted.counts_from(datetime.now(UTC)) or None, "end_time": wanted.end or None}
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


def resume(kubeflow: Kubeflow, found: Found) -> str:
    """Switch on one that was off, without a run that nobody expects; its id, which is another if it is made anew."""
    if not _may_have_missed(found, datetime.now(UTC)):
        enable(kubeflow, found.id)
        return found.id
    if not found.group:
        say(f"{found.schedule.name} was made otherwise and stays: a time that it missed is started within seconds")
        enable(kubeflow, found.id)
        return found.id
    anew = create(kubeflow, found.group, replace(found.schedule, enabled=True), {found.id})
    enable(kubeflow, anew)
    delete(kubeflow, found.id)
    say(f"{found.schedule.name} is made anew, so that no time that it missed is made up for: {anew}")
    return anew


def _may_have_missed(found: Found, now: datetime) -> bool:
    """Whether it was due since it was made; when it was switched off, Kubeflow does not say."""
    if found.made is None:
        return True
    try:
        first = parse_cron(found.schedule.when).after(found.made)
    except ConfigError:  # of somebody else's, whose times nobody here knows
        return True
    return first is not None and first <= now


def enable(kubeflow: Kubeflow, identity: str) -> None:
    """Switch it on."""
    kubeflow.client.enable_recurring_run(identity)


def disable(kubeflow: Kubeflow, identity: str) -> None:
    """Switch it off."""
    kubeflow.client.disable_recurring_run(identity)


def delete(kubeflow: Kubeflow, identity: str) -> None:
    """Delete it; a run it has started belongs to nobody then, and goes on."""
    service = kubeflow.client._recurring_run_api
    service.recurring_run_service_delete_recurring_run(identity, propagation_policy="ORPHAN")


def _followed(kubeflow: Kubeflow, reference: Any, pipelines: Mapping[str, str]) -> tuple[str, str]:
    """The pipeline of a recurring run, and what it is pinned to, or follows: a channel or `latest`."""
    if reference is None:
        return "(a package)", LATEST
    pipeline = pipelines.get(reference.pipeline_id, reference.pipeline_id)
    if not reference.pipeline_version_id:
        name, channel = split_channel(pipeline, our_names())
        return name, channel or LATEST
    return pipeline, version_name(kubeflow, reference)
