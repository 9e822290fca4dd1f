"""`python -m pipelines upload`: pipelines as versions in Kubeflow; the same content is never there twice.

A version is called by the version of this package and the start of the sha256 of its YAML: 0.1.0-3fa92c1e. It is of the
channel `dev`, which no schedule follows.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kfp_server_api
import yaml

from components.images import check_pinned
from hqclip import __version__
from hqclip.completion import offer
from hqclip.errors import ConfigError, ConflictError, DataError, NotFoundError
from hqclip.settings import did_you_mean
from hqclip.stages import LAUNCHABLE
from hqclip.store.leftovers import scratch_folder
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.output import say, say_next, show
from pipelines.client.patience import created
from pipelines.compiling import (
    PIPELINES,
    add_platform_argument,
    add_requests_argument,
    add_tags_argument,
    compile_pipeline,
    images_of,
    stages,
    tell_account,
)
from pipelines.lines import DEV, is_channel, split_channel, without_line
from pipelines.lint import check

LATEST = "latest"
LONGEST_TAG, MOST_TAGS = 63, 20
OWN_TAGS = ("hqclip", "content", "channel")


@dataclass(frozen=True)
class Package:
    """A compiled pipeline: its name, its YAML, and that read."""

    name: str
    text: bytes
    spec: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """sha256 of the YAML."""
        return hashlib.sha256(self.text).hexdigest()

    @property
    def version(self) -> str:
        """What a version of this content is called."""
        return f"{__version__}-{self.digest[:8]}"

    @property
    def images(self) -> list[str]:
        """Of its tasks."""
        return images_of(self.spec)

    @property
    def floating(self) -> list[str]:
        """Images that are named by a tag, which may mean something else tomorrow."""
        return [image for image in self.images if "@sha256:" not in image]


def add_package_arguments(parser: argparse.ArgumentParser) -> None:
    """What is meant: a pipeline of ours or a YAML file, which stages are launched, what pods carry."""
    pipeline = parser.add_argument(
        "pipeline", metavar="PIPELINE", help=f"{', '.join(PIPELINES)}, or a compiled YAML file"
    )
    offer(pipeline, tuple(PIPELINES))
    parser.add_argument(
        "--launched", default="", metavar="STAGES", help=f"as for compile: out of {','.join(LAUNCHABLE)}"
    )
    add_requests_argument(parser)
    add_platform_argument(parser)
    add_tags_argument(parser)


def read_package(pipeline: str, launched: str = "", requests: str = "", platform: str = "") -> Package:
    """Compile a pipeline, or take a YAML file; a cluster would run it as it is meant.

    Raises `ConfigError`, `NotFoundError` and `DataError`.
    """
    package = _read_package(pipeline, launched, requests, platform)
    check(package.spec, pipeline)
    return package


def _read_package(pipeline: str, launched: str, requests: str, platform: str) -> Package:
    started = stages(launched)
    if not pipeline.endswith((".yaml", ".yml")):
        known_pipeline(pipeline)
        with scratch_folder() as folder:
            made = compile_pipeline(pipeline, folder / "pipeline.yaml", started, requests, platform)
            return parse_package(made.read_bytes(), pipeline)
    if flags := chosen(launched=launched, requests=requests, platform=platform):
        raise ConfigError(f"{flags} is for pipelines that are compiled here; {pipeline} is compiled already")
    if not Path(pipeline).is_file():
        raise NotFoundError(f"{pipeline}: there is no such file; `python -m pipelines compile` writes one")
    return parse_package(Path(pipeline).read_bytes(), pipeline)


def chosen(**flags: str | bool) -> str:
    """Those of the flags with which a pipeline is compiled that are given."""
    return ", ".join(f"--{name.replace('_', '-')}" for name, value in flags.items() if value)


def known_pipeline(pipeline: str) -> str:
    """The name in Kubeflow of a pipeline of ours. Raises `ConfigError`."""
    if pipeline not in PIPELINES:
        several = ", ".join(PIPELINES)
        raise ConfigError(
            f"unknown pipeline {pipeline!r}{did_you_mean(pipeline, PIPELINES)}; one of {several}, or a YAML file"
        )
    return str(importlib.import_module(f"pipelines.{pipeline}").NAME)


def our_names() -> list[str]:
    """What the pipelines of this project are called in Kubeflow."""
    return [known_pipeline(name) for name in PIPELINES]


def kubeflow_name(pipeline: str) -> str:
    """The name in Kubeflow of a pipeline that is called as here, or as there."""
    return known_pipeline(pipeline) if pipeline in PIPELINES else pipeline


def our_name(pipeline: str) -> str:
    """The name in Kubeflow of one of ours, which is called as here or there. Raises `ConfigError`."""
    return pipeline if pipeline in our_names() else known_pipeline(pipeline)


def follows_channel(name: str, version: str) -> bool:
    """Whether this is a channel of the pipeline `name`; versions of one that is not ours are called as they like."""
    return is_channel(version) and name in our_names()


def add_our_pipeline(parser: argparse.ArgumentParser) -> None:
    """One of ours that is in Kubeflow."""
    offer(parser.add_argument("pipeline", metavar="PIPELINE", help=", ".join(PIPELINES)), tuple(PIPELINES))


def parse_package(text: bytes, where: str) -> Package:
    """A package out of YAML. Raises `DataError`."""
    try:
        spec, *_ = yaml.safe_load_all(text)
        return Package(str(spec["pipelineInfo"]["name"]), text, spec)
    except (yaml.YAMLError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{where}: not a compiled pipeline; `python -m pipelines compile` writes one") from error


def check_images(package: Package, *, tags_too: bool) -> None:
    """The rule of every verb: images have digests, or somebody accepts tags and is warned. Raises `ConfigError`."""
    if not tags_too:
        check_pinned(package.images)
    if package.floating:
        say(f"warning: images without a digest may change under this version: {', '.join(package.floating)}")


def find_pipeline(kubeflow: Kubeflow, name: str) -> Any | None:
    """A pipeline by its name, None if Kubeflow has none."""
    asked: dict[str, Any] = {"filter": equals("name", name), "namespace": kubeflow.namespace or None}
    return next(pages(kubeflow.client.list_pipelines, "pipelines", **asked), None)


def list_versions(kubeflow: Kubeflow, pipeline_id: str, **asked: Any) -> Iterator[Any]:
    """Versions of a pipeline, the newest first; each brings its whole YAML, so ask for no more than are wanted."""
    about = {"pipeline_id": pipeline_id, "sort_by": "created_at desc", **asked}
    return pages(kubeflow.client.list_pipeline_versions, "pipeline_versions", **about)


def find_version(kubeflow: Kubeflow, name: str, version: str = "") -> Any:
    """A version by the names of pipeline and version, the newest if it is not named. Raises `NotFoundError`.

    Of a channel it is the one in force.
    """
    channel = version if follows_channel(name, version) else ""
    if channel:
        name, version = f"{name}-{channel}", LATEST
    pipeline = find_pipeline(kubeflow, name)
    if pipeline is None and channel:
        base = name.removesuffix(f"-{channel}")
        raise NotFoundError(
            f"nothing was promoted to {channel} of {base} yet: `python -m pipelines promote-version {base} VERSION` "
            f"does it; `python -m pipelines list {base}` has versions and channels"
        )
    if pipeline is None:
        raise NotFoundError(f"Kubeflow has no pipeline {name!r}; `python -m pipelines upload` puts it there")
    if version in ("", LATEST):
        asked: dict[str, Any] = {"page_size": 1}
    else:
        asked = {"filter": equals("name", version)}
    found = next(list_versions(kubeflow, pipeline.pipeline_id, **asked), None)
    if found is None:
        found = _by_id(list(list_versions(kubeflow, pipeline.pipeline_id)), name, version)
    return found


def _by_id(there: Sequence[Any], name: str, version: str) -> Any:
    """The one of all versions that has this id. Raises `NotFoundError`, saying which there are."""
    for found in there:
        if found.pipeline_version_id == version:
            return found
    names = [str(found.name) for found in there]
    newest = f"; the newest is {names[0]}" if names else "; it has none"
    raise NotFoundError(f"pipeline {name} has no version {version!r}{did_you_mean(version, names)}{newest}")


def version_name(kubeflow: Kubeflow, reference: Any) -> str:
    """What the version is called that a run refers to; its id if it was deleted."""
    found = _version_of(kubeflow, reference)
    return str(found.name if found else reference.pipeline_version_id)


def spec_of(kubeflow: Kubeflow, run: Any) -> Mapping[str, Any]:
    """The compiled pipeline that a run executes; empty if its version was deleted."""
    reference = run.pipeline_version_reference
    if reference is None:
        return run.pipeline_spec or {}
    found = _version_of(kubeflow, reference)
    return (found and found.pipeline_spec) or {}


def _version_of(kubeflow: Kubeflow, reference: Any) -> Any | None:
    """The version that a run refers to, None if it was deleted."""
    try:
        return kubeflow.client.get_pipeline_version(reference.pipeline_id, reference.pipeline_version_id)
    except NotFoundError:
        return None


def find_content(kubeflow: Kubeflow, package: Package) -> Any | None:
    """The version that has this content, None if there is none."""
    pipeline = find_pipeline(kubeflow, package.name)
    return None if pipeline is None else _same_content(kubeflow, pipeline.pipeline_id, package)


def ensure_uploaded(kubeflow: Kubeflow, package: Package, tags: Mapping[str, str] | None = None) -> tuple[Any, bool]:
    """The version that has this content, and whether it is new. `ConflictError` if it moved a schedule.

    Raises `ConfigError` for one that is called as a channel is.
    """
    if split_channel(package.name, our_names())[1]:
        raise ConfigError(
            f"{package.name} is what schedules follow: give the pipeline another name; "
            "`python -m pipelines promote-version` is what puts a version in force"
        )
    pipeline = ensure_pipeline(kubeflow, package.name, described_as(package))
    owner = pipeline.pipeline_id
    there = _same_content(kubeflow, owner, package)
    if there is not None:
        return there, False
    if package.name in our_names():
        _keep_schedules(kubeflow, pipeline)
    about = {
        "name": package.version,
        "description": f"hqclip {__version__}, sha256 {package.digest}",
        "tags": {"hqclip": __version__, "content": package.digest[:16], "channel": DEV, **(tags or {})},
    }
    try:
        return upload_version(kubeflow, owner, package, about, lambda: _same_content(kubeflow, owner, package)), True
    except ConflictError:  # somebody else was uploading it
        there = _same_content(kubeflow, owner, package)
        if there is None:
            raise
        return there, False


def upload_version(
    kubeflow: Kubeflow, pipeline_id: str, package: Package, about: Mapping[str, Any], find: Callable[[], Any | None]
) -> Any:
    """A new version; `about` has its name, description and tags, `find` says whether it is there."""
    with scratch_folder() as folder:
        path = folder / f"{package.name}.yaml"
        path.write_bytes(package.text)
        told = {**about, "tags": json.dumps(about["tags"]), "pipelineid": pipeline_id}
        return created(lambda: kubeflow.client._upload_api.upload_pipeline_version(str(path), **told), find)


def _keep_schedules(kubeflow: Kubeflow, pipeline: Any) -> None:
    """Raises `ConflictError` if a recurring run takes whatever is newest of what is uploaded, as none of ours does."""
    there = pages(kubeflow.client.list_recurring_runs, "recurring_runs", namespace=kubeflow.namespace or None)
    moved = [
        row
        for row in there
        if row.status == "ENABLED"
        and row.pipeline_version_reference is not None
        and row.pipeline_version_reference.pipeline_id == pipeline.pipeline_id
        and not row.pipeline_version_reference.pipeline_version_id
    ]
    if moved:
        names = ", ".join(f"{row.display_name} ({row.recurring_run_id})" for row in moved)
        raise ConflictError(
            f"a new version of {pipeline.name} would be taken by recurring runs that follow what is newest: "
            f"{names}. Let them follow a channel: `python -m pipelines promote-version {pipeline.name} "
            "latest` puts in force what they run now and names the channel, then `schedule apply` their file with that "
            "as `version:`; or `schedule pause` them"
        )


def equals(key: str, value: str) -> str:
    """A filter for one value, as Kubeflow's lists take it."""
    return matching(key, value, "EQUALS")


def matching(key: str, value: str, operation: str) -> str:
    """A filter of any operation, e.g. IS_SUBSTRING."""
    return json.dumps({"predicates": [{"operation": operation, "key": key, "stringValue": value}]})


def ensure_pipeline(kubeflow: Kubeflow, name: str, about: str) -> Any:
    """A pipeline of this name, without a version if it is new: the first one is to have a name as every other."""
    there = find_pipeline(kubeflow, name)
    if there is not None:
        return there
    body = kfp_server_api.V2beta1Pipeline(
        name=name, display_name=name, description=about or None, namespace=kubeflow.namespace or None
    )
    service = kubeflow.client._pipelines_api
    try:
        return created(
            lambda: service.pipeline_service_create_pipeline(pipeline=body),
            lambda: find_pipeline(kubeflow, name),
        )
    except ConflictError:  # somebody else was faster
        there = find_pipeline(kubeflow, name)
        if there is None:
            raise
        return there


def described_as(package: Package) -> str:
    """What its pipeline is for, in whatever line."""
    return without_line(str(package.spec.get("pipelineInfo", {}).get("description", "")))


def _same_content(kubeflow: Kubeflow, pipeline_id: str, package: Package) -> Any | None:
    """A version of this content, whatever release of ours it was compiled with."""
    ending = f"-{package.digest[:8]}"
    there = list_versions(kubeflow, pipeline_id, filter=matching("name", ending, "IS_SUBSTRING"))
    return next((version for version in there if str(version.name).endswith(ending)), None)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_package_arguments(parser)
    parser.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="of the version; may be repeated"
    )
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Upload, unless this content is there; say which version has it."""
    tags = read_tags(given.tag)
    package = read_package(given.pipeline, given.launched, given.requests, given.platform)
    check_images(package, tags_too=given.allow_tags)
    kubeflow = connect.connect(given)
    version, is_new = ensure_uploaded(kubeflow, package, tags)
    if is_new:
        say(f"uploaded {package.name} as version {version.name}")
    else:
        say(f"nothing to upload: version {version.name} of {package.name} has this content already")
        newest = next(list_versions(kubeflow, version.pipeline_id, page_size=1), version)
        if newest.pipeline_version_id != version.pipeline_version_id:
            say(
                f"but `latest` is {newest.name}, which is newer: name this one where it is wanted, by "
                f"`run {package.name} --version {version.name}`, and `version:` in a schedule"
            )
    show(
        {
            "pipeline": package.name,
            "version": version.name,
            "new": is_new,
            "pipeline_id": version.pipeline_id,
            "version_id": version.pipeline_version_id,
            "link": kubeflow.link("pipelines", version.pipeline_id, version.pipeline_version_id),
        },
        given.output,
    )
    tell_account(given.platform)
    if is_new:
        say_next(*next_of(kubeflow, package, version))
    return 0


def next_of(kubeflow: Kubeflow, package: Package, version: Any) -> list[str]:
    """What one does with a new version."""
    listed = kubeflow.command("list", package.name)
    if package.name not in our_names():
        return [listed]
    accepted = ["--allow-tags"] if package.floating else []
    return [listed, kubeflow.command("promote-version", package.name, str(version.name), *accepted)]


def read_tags(assignments: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` as Kubeflow takes tags. Raises `ConfigError`."""
    tags = {}
    for assignment in assignments:
        key, equal, value = assignment.partition("=")
        if not (key and equal and value) or max(len(key), len(value)) > LONGEST_TAG:
            raise ConfigError(f"--tag {assignment}: give KEY=VALUE, each of at most {LONGEST_TAG} characters")
        if key in OWN_TAGS or "." in key:
            raise ConfigError(f"--tag {assignment}: give another key, without a dot; {', '.join(OWN_TAGS)} are taken")
        tags[key] = value
    if len(tags) > MOST_TAGS - len(OWN_TAGS):
        raise ConfigError(f"{len(tags)} --tag: give at most {MOST_TAGS - len(OWN_TAGS)}")
    return tags
