"""`python -m pipelines list`: pipelines in Kubeflow, or the versions of one with their channels and lines."""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from hqclip.errors import NotFoundError
from hqclip.settings import did_you_mean
from pipelines.client import connect, output
from pipelines.client.channels import channels, content_name
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.output import show
from pipelines.client.versions import OWN_TAGS, find_pipeline, kubeflow_name, list_versions, our_names
from pipelines.lines import DEV, line_of, split_channel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("pipeline", nargs="?", help="a pipeline whose versions to list; without, pipelines are listed")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Pipelines there are, or versions of one."""
    kubeflow = connect.connect(given)
    if not given.pipeline:
        found = pages(kubeflow.client.list_pipelines, "pipelines", namespace=kubeflow.namespace or None)
        _show([_pipeline(pipeline) for pipeline in found], given.output)
        return 0
    name = kubeflow_name(given.pipeline)
    pipeline = find_pipeline(kubeflow, name)
    if pipeline is None:
        known = [
            str(p.name)
            for p in pages(kubeflow.client.list_pipelines, "pipelines", namespace=kubeflow.namespace or None)
        ]
        raise NotFoundError(f"Kubeflow has no pipeline {name!r}{did_you_mean(name, known)}; `list` shows all there are")
    _show(list(_versions(kubeflow, name, pipeline.pipeline_id)), given.output)
    return 0


def _show(rows: list[dict[str, Any]], form: str) -> None:
    """As a table for people, without ids, and without tags that other columns say."""
    if form == "table":
        rows = [{**row, "tags": _others(row["tags"])} for row in rows]
        rows = [{name: value for name, value in row.items() if name != "id"} for row in rows]
    show(rows, form)


def _others(tags: str) -> str:
    """Those that somebody gave."""
    return ",".join(tag for tag in tags.split(",") if tag.partition("=")[0] not in OWN_TAGS)


def _versions(kubeflow: Kubeflow, name: str, pipeline_id: str) -> Iterator[dict[str, Any]]:
    """Versions of a pipeline, each with the channel that it is in force in, or `dev`, and its line.

    Of a channel's own versions only the newest is in force.
    """
    own = split_channel(name, our_names())[1]
    force: dict[str, list[str]] = defaultdict(list)
    if name in our_names():
        for channel, newest in channels(kubeflow, name):
            force[content_name(newest.name)].append(channel)
    for number, version in enumerate(list_versions(kubeflow, pipeline_id)):
        in_force = [own] if own and number == 0 else force.get(content_name(version.name), [])
        beside = DEV if name in our_names() else ""
        yield _row(version, "version", ",".join(sorted(in_force)) or beside, line_of(version.pipeline_spec or {}))


def _pipeline(found: Any) -> dict[str, Any]:
    name = str(found.name)
    return _row(found, "pipeline", DEV if name in our_names() else split_channel(name, our_names())[1])


def _row(found: Any, kind: str, channel: str, line: str | None = None) -> dict[str, Any]:
    return {
        kind: found.name,
        "channel": channel,
        **({"line": line} if line is not None else {}),
        "id": found.pipeline_version_id if kind == "version" else found.pipeline_id,
        "created": found.created_at.isoformat(timespec="seconds") if found.created_at else "",
        "tags": ",".join(f"{key}={value}" for key, value in sorted((found.tags or {}).items())),
        "description": found.description or "",
    }
