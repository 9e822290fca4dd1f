"""`python -m pipelines list`: pipelines in Kubeflow, or the versions of one."""

from __future__ import annotations

import argparse
from typing import Any

from hqclip.errors import NotFoundError
from hqclip.settings import did_you_mean
from pipelines.client import connect, output
from pipelines.client.connect import pages
from pipelines.client.output import show
from pipelines.client.versions import find_pipeline, known_pipeline, list_versions
from pipelines.compiling import PIPELINES


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
        show([_row(pipeline, "pipeline") for pipeline in found], given.output)
        return 0
    name = known_pipeline(given.pipeline) if given.pipeline in PIPELINES else given.pipeline
    pipeline = find_pipeline(kubeflow, name)
    if pipeline is None:
        known = [
            str(p.display_name)
            for p in pages(kubeflow.client.list_pipelines, "pipelines", namespace=kubeflow.namespace or None)
        ]
        raise NotFoundError(f"Kubeflow has no pipeline {name!r}{did_you_mean(name, known)}; `list` shows all there are")
    show([_row(version, "version") for version in list_versions(kubeflow, pipeline.pipeline_id)], given.output)
    return 0


def _row(found: Any, kind: str) -> dict[str, Any]:
    return {
        kind: found.display_name,
        "id": found.pipeline_version_id if kind == "version" else found.pipeline_id,
        "created": found.created_at.isoformat(timespec="seconds") if found.created_at else "",
        "tags": ",".join(f"{key}={value}" for key, value in sorted((found.tags or {}).items())),
        "description": found.description or "",
    }
