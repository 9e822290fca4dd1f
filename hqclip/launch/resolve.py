"""What a person asks for, checked and made exact: spec, stage and settings in, an `Order` out. Nothing happens yet."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from hqclip.errors import ConfigError
from hqclip.launch import jobset, volcano
from hqclip.launch.job import GANG, REPLICAS, Job
from hqclip.launch.naming import job_name, spec_digest
from hqclip.launch.patches import Json
from hqclip.launch.profiles import find_network
from hqclip.launch.spec import LaunchSpec, check_for_stage, read_sections, read_spec
from hqclip.settings import did_you_mean
from hqclip.stages import STAGES, Shape

RENDER = {"volcano": volcano.render, "jobset": jobset.render}
MARGIN_S = 15  # of the pod's grace, for the agent to write down what happened


@dataclass(frozen=True)
class Order:
    """A job, and how it is to be run and watched."""

    spec: LaunchSpec
    job: Job


def resolve_order(spec: LaunchSpec, stage: str, given: Mapping[str, Any]) -> Order:
    """Check the settings against the stage and the machines. Raises `ConfigError` with what does not fit."""
    if stage not in STAGES:
        raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, STAGES)}; one of {', '.join(STAGES)}")
    shape = GANG if STAGES[stage].shape is Shape.GANG else REPLICAS
    check_for_stage(spec, stage, shape)
    if stage == "annotate" and spec.nodes > 1:
        given = {**given, "claims": True}  # so that replicas share the shards
    checked = STAGES[stage].settings.from_mapping(given, f"{stage}.")
    settings = checked.to_mapping()
    settings["store"] = one_spelling(str(settings["store"]))
    processes = spec.processes if shape == GANG else 1
    if shape == GANG:
        checked.check_ranks(spec.nodes * processes)
    job = Job(
        name=job_name(spec, stage, settings),
        digest=spec_digest(spec, stage, settings),
        store=str(settings["store"]),
        stage=stage,
        settings=settings,
        shape=shape,
        nodes=spec.nodes,
        nproc=processes,
        progress=f"runs/{settings['run']}/checkpoints/" if shape == GANG else "",
        restarts_in_place=spec.restarts_in_place,
        no_progress_attempts=spec.no_progress_attempts if shape == GANG else 0,  # of others no progress is known
        lease_stale_s=spec.lease_stale_s,
        rendezvous_timeout_s=spec.rendezvous_timeout_s,
        shutdown_s=spec.grace_s - MARGIN_S,
        environment_script=str(find_network(spec.network).get("environment_script", "")),
    )
    if spec.scheduler != "local" and not job.store.startswith("gs://") and not _is_shared(job.store, spec):
        raise ConfigError(
            f"store {job.store!r} is a folder: pods of other machines do not see it. Give gs://bucket/prefix, or mount "
            "a shared volume there with --volumes claim:NAME:/path"
        )
    order = Order(spec, job)
    if spec.scheduler in RENDER:
        render(order)
    return order


def render(order: Order) -> Json:
    """The object that is created for an order. Raises `ConfigError` if patches leave none."""
    try:
        return RENDER[order.spec.scheduler](order.spec, order.job)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f"with its patches this is no {order.spec.scheduler} object any more: {error!r}") from error


def one_spelling(store: str) -> str:
    """A folder by its absolute path and a bucket without a last slash: one store has one name."""
    scheme, colon, rest = store.partition("://")
    if colon and scheme != "file":
        return store.rstrip("/")
    return str(Path(rest if colon else store).resolve())


def _is_shared(folder: str, spec: LaunchSpec) -> bool:
    """Whether pods on different machines can write to this folder."""
    for volume in spec.volumes:
        kind, _, path, *mode = volume.split(":")
        if kind in ("claim", "gcs") and mode != ["ro"] and PurePosixPath(folder).is_relative_to(path):
            return True
    return False


def plan_machines(uri: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The spec of every stage that has a section in a YAML file, checked with what is known of its settings.

    What earlier stages will say is not known yet. Raises `ConfigError` with the problems of all stages at once.
    """
    specs, problems = {}, []
    for stage in read_sections(uri):
        try:
            if stage not in settings:
                raise ConfigError(f"{uri}: {stage} runs where it is called; leave its section out")
            specs[stage] = read_spec({}, file=uri, stage=stage)
            resolve_order(specs[stage], stage, _filled(stage, settings[stage]))
        except ConfigError as error:
            problems += [f"{stage}: {line}" for line in str(error).splitlines()]
    if problems:
        raise ConfigError("\n".join(problems))
    return {stage: spec.to_mapping() for stage, spec in specs.items()}


def check_launched(machines: Mapping[str, Any], launched: Sequence[str]) -> None:
    """Raises `ConfigError` if a stage that a pipeline was compiled to launch has no machines."""
    missing = [stage for stage in launched if stage not in machines]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)}: this pipeline was compiled with --launched for it, so it has no GPU of its own, "
            "and the launch file has no section for it; give plan_launch, or compile without --launched"
        )


def _filled(stage: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with a stand-in for what is missing."""
    fields = dataclasses.fields(STAGES[stage].settings)
    return {**{f.name: "later" for f in fields if f.default is dataclasses.MISSING}, **given}
