"""A platform file in, what the pods of tasks and of workers carry there out.

It holds settings of `hqclip launch` that the task of a pipeline can have as well, by the same names and in the same
words: for all pods at the top, for a stage in its section. A pipeline is compiled with it, and a stage that is launched
takes them for its workers, so that a secret is named once. Tasks run them by kfp-kubernetes; what that cannot do is
refused here.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from hqclip import provenance, task_records
from hqclip.errors import ConfigError, NotFoundError
from hqclip.launch.layers import ENV, layered
from hqclip.launch.plain import nested_keys, plain_value
from hqclip.launch.pod_template import pairs, volume_parts
from hqclip.launch.spec import LaunchSpec
from hqclip.records import digest_of
from hqclip.settings import did_you_mean
from hqclip.stages import STAGES
from hqclip.strict_json import read_json
from hqclip.strict_yaml import lines_of, read_yaml

SHARED = {
    **{
        name: name
        for name in (
            *("image_pull_secrets", "image_pull_policy", "env", "secret_env", "config_env", "volumes", "shm"),
            *("node_selector", "node_affinity", "tolerations", "labels", "user", "gpu_resource"),
            *("cpus", "memory", "gpus"),
        )
    },
    "annotations": "job_annotations",
    "timeout_s": "running_timeout_s",
    "worker_service_account": "service_account",
}  # settings of a platform, and of a launch that workers take them for
OF_STAGES = ("cpus", "memory", "gpus")  # only in a section
OF_RUNS = {
    "service_account": "of runs and schedules: Kubeflow sets it for a run, never for a task; the workers of launched "
    "stages have worker_service_account",
    "requests": "name of the set of CPUs, memory and GPUs that tasks ask for, as --requests, which wins over it",
}  # only at the top
TASKS = (*STAGES, "finish")
# what Kubeflow gives the pod of a task itself
_TAKEN_NAMES = ("kfp-launcher", "gcs-scratch", "s3-scratch", "minio-scratch", "ca-bundle", "shm")
_TAKEN_PATHS = ("/kfp-launcher", "/gcs", "/s3", "/minio", "/.local", "/.cache", "/.config", "/dev/shm", "/tmp")
_TAKEN_ENV = (provenance.RUN, task_records.POD, task_records.NODE, provenance.IMAGE)
_OPEN = re.compile(r"(?:^|(?<=[:=]))\$([a-z][a-z0-9_]*)(?=[:/]|$)", re.ASCII)
_MAY_BE_OPEN = ("image_pull_secrets", "secret_env", "config_env", "volumes")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII).fullmatch
_VOLUME_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII).fullmatch
Refuse = Callable[..., None]  # what is wrong, and the keys that lead to it
Section = Mapping[str, Any]  # settings in the form of flags: lists of NAME=value, JSON, quantities as text


@dataclass(frozen=True)
class Platform:
    """What a file says: of all pods, by stage, and of runs; nothing if there is none."""

    common: Section = field(default_factory=dict)
    sections: Mapping[str, Section] = field(default_factory=dict)
    of_runs: Mapping[str, str] = field(default_factory=dict)

    def of(self, stage: str) -> dict[str, Any]:
        """Settings of the pods of a stage: its section laid over what is for all."""
        return layered(self.common, self.sections.get(stage, {}))

    @property
    def digest(self) -> str:
        """Of what it says, whatever its comments and order; empty if it says nothing."""
        said = dataclasses.asdict(self)
        return digest_of(said) if any(said.values()) else ""

    @cached_property
    def open_names(self) -> dict[str, str]:
        """Names that runs are to give, `$name` in the file, and what each is of."""
        found = [left for section in (self.common, *self.sections.values()) for left in _left(section)]
        return dict(sorted(found))

    def workers(self, stages: Sequence[str]) -> str:
        """What the workers of these stages get, as JSON for the pipeline; nothing for none. Raises `ConfigError`."""
        said = {}
        for stage in stages:
            settings = self.of(stage)
            for name, _ in _left(settings):
                raise ConfigError(
                    f"platform: ${name} is left to the runs, which Kubeflow fills in for tasks only, and {stage} is "
                    "launched: write the name, or launch nothing"
                )
            if settings:
                said[stage] = {SHARED[name]: value for name, value in settings.items()}
        return json.dumps(said, sort_keys=True) if said else ""


def open_name(name: str) -> str | None:
    """`name` of `$name`, None for a name as Kubernetes has it."""
    return name[1:] if name.startswith("$") else None


def read_workers(text: str) -> dict[str, dict[str, Any]]:
    """What `workers` wrote: settings of a launch by stage. Raises `ConfigError`."""
    try:
        said = read_json(text or "{}")
    except ValueError as error:
        raise ConfigError(f"workers {error}") from None
    if not isinstance(said, dict) or not all(isinstance(settings, dict) for settings in said.values()):
        raise ConfigError("workers must be a JSON object of settings by stage, as a platform writes it")
    return said


def read_platform(path: str) -> Platform:
    """That of a file, of none for no path. Raises `ConfigError` with everything that is wrong, by line."""
    if not path:
        return Platform()
    where = f"platform {path}"
    try:
        source = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{where}: there is no such file; manifests/platforms has some to start from") from error
    except OSError as error:
        raise ConfigError(f"{where}: {error.strerror}") from error
    return parse_platform(source, where)


def parse_platform(source: bytes | str, where: str) -> Platform:
    """That of YAML. Raises `ConfigError` with everything that is wrong, by line."""
    written = read_yaml(source, where) or {}
    if not isinstance(written, dict):
        raise ConfigError(f"{where}: give settings, `name: value` a line")
    lines, problems = lines_of(source), []

    def refuse(told: str, *path: str) -> None:
        line = next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)
        problems.append(f"{where}, line {line}: {told}")

    sections = {name: part for name, part in written.items() if name in TASKS}
    of_runs = {name: value for name, value in written.items() if name in OF_RUNS}
    common = {name: value for name, value in written.items() if name not in {**sections, **of_runs}}
    platform = Platform(
        common=dict(_checked(common, "", refuse)),
        sections={stage: dict(_checked(part, stage, refuse)) for stage, part in sections.items()},
        of_runs=dict(_names(of_runs, refuse)),
    )
    if not problems:
        of_all = list(_contradictions(platform.common))
        for setting, told in of_all:
            refuse(told, setting)
        for stage, section in platform.sections.items():
            for setting, told in _contradictions(platform.of(stage)):
                if (setting, told) not in of_all:
                    refuse(f"{stage}: {told}", *((stage, setting) if setting in section else (setting,)))
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))
    return platform


def _names(given: Mapping[str, Any], refuse: Refuse) -> Iterator[tuple[str, str]]:
    """Settings of runs, each of which is a name."""
    for name, value in given.items():
        if isinstance(value, str) and _NAME(value):
            yield name, value
        else:
            refuse(f"{name} is {value!r}; give a name of small letters, digits, dots and dashes", name)


def _checked(given: Any, stage: str, refuse: Refuse) -> Iterator[tuple[str, Any]]:
    """Each setting as flags have it; what is none is told with its line."""
    if not isinstance(given or {}, dict):
        refuse(f"{stage} is the section of a stage: give settings below it", stage)
        return
    for name, value in (given or {}).items():
        path = tuple(filter(None, (stage, str(name))))
        known = [*SHARED, *(() if stage else (*OF_RUNS, *TASKS))]
        if name not in SHARED:
            hint = "; it belongs to the top of the file" if name in OF_RUNS else did_you_mean(str(name), known)
            refuse(f"unknown setting {'.'.join(path)}{hint}", *path)
        elif name in OF_STAGES and not stage:
            refuse(f"{name} is of a stage: give it in a section, as `train: {{{name}: ...}}`, or `requests`", *path)
        elif value is None:
            refuse(f"{name} has no value", *path)
        elif nested := nested_keys(str(name), value):
            refuse(f"{'.'.join(path)}.{nested[0]} is {value[nested[0]]!r}; give text", *path, str(nested[0]))
        else:
            try:
                yield str(name), _read(str(name), plain_value(str(name), value))
            except ConfigError as error:
                prefix = f"{stage}." if stage else ""
                for told in str(error).splitlines():
                    refuse(f"{prefix}{told.replace(SHARED[str(name)], str(name), 1)}", *path)


def _read(name: str, value: Any) -> Any:
    """One setting, as a launch would have it, but that names may be open. Raises `ConfigError`."""
    items = None
    if name in _MAY_BE_OPEN:
        items = [value] if isinstance(value, str) else value if isinstance(value, list) else None
    closed = [_OPEN.sub("x", item) if isinstance(item, str) else item for item in items] if items else value
    checked = LaunchSpec.from_mapping({SHARED[name]: closed}).to_mapping()[SHARED[name]]
    if name == "timeout_s":
        if not float(checked).is_integer() or checked < 1:
            raise ConfigError(f"{SHARED[name]} is {value!r}; give whole seconds, 1 or more")
        return int(checked)
    return items or checked


def _contradictions(settings: Section) -> Iterator[tuple[str, str]]:
    """What a pod of a task cannot have together, or has of Kubeflow or of hqclip already; the setting first."""
    env = [(name, kind) for kind in ENV for name in pairs(settings.get(kind, ()))]
    for name, kind in env:
        others = [other for one, other in env if one == name and other != kind]
        if others and kind != ENV[0]:
            yield kind, f"{name} is in {kind} and in {others[0]}; give it once"
        if name in _TAKEN_ENV:
            yield kind, f"{kind}: {name} is set by hqclip itself"
    for name in settings.get("image_pull_secrets", ()):
        if not open_name(name) and not _NAME(name):
            yield "image_pull_secrets", f"image_pull_secrets: {name!r} is no name of a secret"
    for told in _volumes_in_the_way([volume_parts(item) for item in settings.get("volumes", ())]):
        yield "volumes", told


def _volumes_in_the_way(volumes: Sequence[tuple[str, str, str, str]]) -> Iterator[str]:
    """By kind, name, path and mode: a task names its volumes after what they mount, beside those of Kubeflow."""
    for kind, name, path, mode in volumes:
        where = f"volumes: {kind}:{name}:{path}"
        if kind == "gcs":
            yield f"{where} is for workers alone, tasks cannot mount a bucket; put it into the launch file"
        if kind == "claim" and mode == "ro":
            yield f"{where} is mounted to be written: tasks cannot have one read only; leave :ro out"
        if not open_name(name) and not _VOLUME_NAME(name):
            yield f"{where}: a volume of a task has the name of what it mounts; give up to 63 of a-z, 0-9 and dashes"
        if name in _TAKEN_NAMES or any(_within(path, taken) for taken in _TAKEN_PATHS):
            yield f"{where} is in the way of what Kubeflow or hqclip mount; give another name or path"
    for path in _repeated([path.rstrip("/") for _, _, path, _ in volumes]):
        yield f"volumes: {path} is mounted twice"
    for name in _repeated([name for _, name, _, _ in volumes]):
        yield f"volumes: {name} is there twice, and a volume of a task has the name of what it mounts; mount it once"


def _repeated(items: list[str]) -> list[str]:
    return sorted({item for item in items if items.count(item) > 1})


def _within(path: str, taken: str) -> bool:
    return path.rstrip("/") == taken or path.startswith(f"{taken}/")


def _left(settings: Section) -> Iterator[tuple[str, str]]:
    """Names that are open, and of what kind of object each is."""
    for setting in _MAY_BE_OPEN:
        for item in settings.get(setting, ()):
            for name in _OPEN.findall(item):
                yield name, _kind(setting, item)


def _kind(setting: str, item: str) -> str:
    """Of what kind of object a name is."""
    kinds = {"claim": "PersistentVolumeClaim", "secret": "Secret", "config": "ConfigMap"}
    by_setting = {"image_pull_secrets": "Secret", "secret_env": "Secret", "config_env": "ConfigMap"}
    return by_setting.get(setting) or kinds.get(item.partition(":")[0], "volume")
