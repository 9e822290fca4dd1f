"""Channels in Kubeflow: a version that was tried goes into what schedules follow, and out of it again.

A recurring run that is not pinned takes the newest version of its pipeline, and heeds no tag. So a channel is a
pipeline of its own, one for each line: `run` and `upload` put what they compile into hqclip-refine, which is `dev`;
hqclip-refine-stable has what was promoted, hqclip-refine-stable-launched-train what was promoted of that line.
Nothing is deleted: what is taken back is followed by a version with the content before it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import yaml

from hqclip.errors import ConflictError, NotFoundError
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.versions import (
    Package,
    described_as,
    ensure_pipeline,
    equals,
    find_pipeline,
    list_versions,
    matching,
    our_names,
    parse_package,
    upload_version,
)
from pipelines.lines import channel_of, line_of, split_channel

TICK_S = 1.0  # Kubeflow counts whole seconds, and takes either for the newest of two versions of one second
_AGAIN = re.compile(r"(?P<name>.+)-again-\d+")
_TAKEN_BACK = re.compile(r"; in place of (\S+), which was taken back$")


@dataclass(frozen=True)
class Step:
    """What is in force in a channel now and what was before; `is_new` if that has changed."""

    pipeline: str
    channel: str
    version: Any
    before: str
    is_new: bool


def promote(kubeflow: Kubeflow, name: str, version: Any) -> Step:
    """Put this version in force in the channel of its line. Raises `ConflictError` if another came between."""
    channel = channel_of(line_of(version.pipeline_spec or {}))
    package = package_of(version)
    followed = ensure_pipeline(kubeflow, f"{name}-{channel}", described_as(package))
    there = list(list_versions(kubeflow, followed.pipeline_id))
    before = str(there[0].name) if there else ""
    if there and content_name(there[0].name) == content_name(version.name) and _is_newest(there):
        return Step(name, channel, there[0], before, False)
    made = _put(kubeflow, followed.pipeline_id, channel, version, there)
    return Step(name, channel, made, before, True)


def take_back(kubeflow: Kubeflow, name: str, channel: str) -> Step:
    """Put in force again what was before the version in force. Raises `NotFoundError` if there was none."""
    followed = find_pipeline(kubeflow, f"{name}-{channel}")
    there = list(list_versions(kubeflow, followed.pipeline_id)) if followed is not None else []
    stood = standing(there)
    if len(stood) < 2:
        what = f"nothing was in force before {stood[0].name}" if stood else "nothing was promoted yet"
        raise NotFoundError(f"{channel} of {name}: {what}; `python -m pipelines list {name}` has the channels")
    before = str(stood[-1].name)
    made = _put(
        kubeflow, there[0].pipeline_id, channel, stood[-2], there, f"; in place of {before}, which was taken back"
    )
    return Step(name, channel, made, before, True)


def standing(there: Sequence[Any]) -> list[Any]:
    """Of the versions of a channel, the newest first: those to go back to, oldest first; the last is in force."""
    stood: list[Any] = []
    for version in reversed(there):
        if _TAKEN_BACK.search(version.description or ""):
            del stood[-2:]  # what was taken back, and the same content as this one
        stood.append(version)
    return stood


def channels(kubeflow: Kubeflow, name: str) -> Iterator[tuple[str, Any]]:
    """Channels of a pipeline, each with the version in force."""
    named = matching("name", f"{name}-", "IS_SUBSTRING")
    asked: dict[str, Any] = {"filter": named, "namespace": kubeflow.namespace or None}
    for pipeline in pages(kubeflow.client.list_pipelines, "pipelines", **asked):
        own, channel = split_channel(str(pipeline.name), our_names())
        newest = next(list_versions(kubeflow, pipeline.pipeline_id, page_size=1), None)
        if own == name and channel and newest is not None:
            yield channel, newest


def content_name(version: str) -> str:
    """A version's name after its content: the same in every channel, however often it was put in force."""
    again = _AGAIN.fullmatch(version)
    return again["name"] if again else version


def package_of(version: Any) -> Package:
    """A version as it would be uploaded: its specification, and what is Kubernetes' of it."""
    spec: Mapping[str, Any] = version.pipeline_spec or {}
    parts = [spec["pipeline_spec"], spec["platform_spec"]] if "pipeline_spec" in spec else [spec]
    return parse_package(yaml.safe_dump_all(parts).encode(), f"version {version.name}")


def _put(kubeflow: Kubeflow, followed: str, channel: str, version: Any, there: Sequence[Any], why: str = "") -> Any:
    """The content of a version as the newest of a channel."""
    content = content_name(version.name)
    number = sum(content_name(other.name) == content for other in there) + 1
    name = content if number == 1 else f"{content}-again-{number}"
    about = {
        "name": name,
        "description": f"{(version.description or content).partition(';')[0]}{why}",
        "tags": {**(version.tags or {}), "channel": channel},
    }
    found = {"filter": equals("name", name)}
    if there:
        time.sleep(TICK_S)
    made = upload_version(
        kubeflow, followed, package_of(version), about, lambda: next(list_versions(kubeflow, followed, **found), None)
    )
    newest = list(islice(list_versions(kubeflow, followed, page_size=2), 2))
    if newest[0].pipeline_version_id != made.pipeline_version_id or not _is_newest(newest):
        other = next(each for each in newest if each.pipeline_version_id != made.pipeline_version_id)
        raise ConflictError(
            f"{channel}: {other.name} was put in force at the same time as {name}, and may be what is taken; "
            "look at it, and try again to have it your way"
        )
    return made


def _is_newest(there: Sequence[Any]) -> bool:
    """Whether the first, of versions that are listed the newest first, is newer than the others."""
    return len(there) < 2 or bool(there[0].created_at > there[1].created_at)
