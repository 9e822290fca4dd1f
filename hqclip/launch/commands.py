"""`hqclip launch run|render STAGE`: flags of the launch and of the stage on one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from hqclip.errors import ConfigError, ConflictError
from hqclip.flags import read_flags
from hqclip.launch.config import LaunchRenderConfig, LaunchRunConfig
from hqclip.launch.machines import read_spec
from hqclip.launch.platform import read_platform, read_workers
from hqclip.launch.registry import load
from hqclip.launch.resolve import make_order, warn_of_tags
from hqclip.launch.spec import LaunchSpec
from hqclip.project import Sections
from hqclip.project import load as load_project
from hqclip.settings import Settings, did_you_mean
from hqclip.stages import STAGES

DRY_RUNS = ("client", "server")


def run(words: Sequence[str], sections: Sections) -> dict[str, Any]:
    """`hqclip launch run STAGE --flag value ...`."""
    from hqclip.launch.run import launch

    spec, stage, settings, dry_run = read_words("launch run", LaunchRunConfig, words, sections)
    if dry_run:
        return _object(spec, stage, settings, dry_run)
    return launch(spec, stage, settings)


def show(words: Sequence[str], sections: Sections) -> dict[str, Any]:
    """`hqclip launch render STAGE --flag value ...`: the object that `run` would create."""
    spec, stage, settings, dry_run = read_words("launch render", LaunchRenderConfig, words, sections)
    return _object(spec, stage, settings, dry_run)


def read_words(
    command: str, kind: type[LaunchSpec], words: Sequence[str], sections: Sections
) -> tuple[LaunchSpec, str, dict[str, Any], str]:
    """Spec, stage, settings of the stage, and the kind of dry run. Raises `ConfigError`."""
    stage = words[0] if words and not words[0].startswith("-") else ""
    if stage and stage not in STAGES:
        raise ConfigError(f"unknown stage {stage!r}{did_you_mean(stage, STAGES)}; one of {', '.join(STAGES)}")
    given, dry_run = read_flags(
        f"{command} {stage or 'STAGE'}", flag_kinds(kind, stage), words[1:] if stage else words, dry_runs=DRY_RUNS
    )
    if not stage:
        raise ConfigError(f"hqclip {command} wants a stage: one of {', '.join(STAGES)}")
    own = dict(given[0])
    beneath = read_workers(read_platform(str(own.pop("platform", ""))).workers([stage]))
    settings = load_project(sections).under(stage, STAGES[stage].settings, given[1])
    return read_spec(own, file=str(own.pop("spec", "")), stage=stage, beneath=beneath), stage, settings, dry_run


def flag_kinds(kind: type[Settings], stage: str) -> list[type[Settings]]:
    """What has flags on the line of a launch: the launch, and the stage once that is known."""
    return [kind, *([STAGES[stage].settings] if stage in STAGES else [])]


def _object(spec: LaunchSpec, stage: str, settings: dict[str, Any], dry_run: str) -> dict[str, Any]:
    """What would be created; the cluster has a look at it if `dry_run` is server."""
    order = make_order(spec, stage, settings)
    warn_of_tags(order)
    if not spec.on_kubernetes:
        return dataclasses.asdict(order.job)
    if dry_run != "server":
        return order.body
    from hqclip.launch.kube import AlreadyExists, connect
    from hqclip.launch.submit import create

    try:
        body = create(connect(spec.namespace), load(spec.scheduler), order.body, dry_run=True)
    except AlreadyExists as error:
        raise ConflictError(f"{order.job.name} is there already: `launch run` would follow it ({error})") from error
    body.get("metadata", {}).pop("managedFields", None)  # who wrote which field: longer than the rest, as kubectl hides
    return body
