"""What tasks run on: the only place that touches task settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from kfp import dsl, kubernetes

from components import images
from hqclip import provenance, task_records
from hqclip.errors import ConfigError
from hqclip.launch.platform import Platform
from pipelines.carried import carry, mark

GPU = "nvidia.com/gpu"


@dataclass(frozen=True)
class Request:
    """What a task asks its node for: CPUs and memory in the units of Kubernetes, and a number of GPUs."""

    cpu: str
    memory: str
    gpus: int = 0


LIGHT = Request("100m", "256Mi")  # tasks that only read and write documents
WAITING = Request("250m", "256Mi")  # for a job (benchmarks/launch_memory.md), of at most this memory:
MOST_WAITING = "1Gi"
STANDARD = "standard"
REQUESTS = {
    STANDARD: {
        "download": Request("4", "16Gi"),
        "annotate": Request("8", "32Gi", gpus=1),
        "score": Request("8", "32Gi", gpus=1),
        "curate": Request("4", "16Gi"),
        "train": Request("8", "32Gi", gpus=1),
        "evaluate": Request("8", "32Gi", gpus=1),
    },
    "small": {  # a laptop, kind: the demo's sizes, no GPU
        "download": Request("250m", "512Mi"),
        "annotate": Request("500m", "2Gi"),
        "score": Request("500m", "1Gi"),
        "curate": Request("250m", "1Gi"),
        "train": Request("500m", "2Gi"),
        "evaluate": Request("500m", "1Gi"),
    },
}  # of the stages that do the work, by the name of the set
ITSELF = {
    provenance.RUN: "metadata.labels['pipeline/runid']",
    task_records.POD: "metadata.name",
    task_records.NODE: "spec.nodeName",
}  # environment: fields of its own pod by which a task knows where it runs


@dataclass(frozen=True)
class Choice:
    """What is chosen when a pipeline is compiled: the stages that start jobs, a set of requests, and a platform.

    `names` are the inputs of the pipeline that give what the platform leaves open.
    """

    launched: frozenset[str] = frozenset()
    requests: str = ""
    platform: Platform = field(default_factory=Platform)
    names: Mapping[str, Any] = field(default_factory=dict)


NOTHING_CHOSEN = Choice()
_choice: ContextVar[Choice] = ContextVar("choice", default=NOTHING_CHOSEN)


@contextmanager
def composing(choice: Choice) -> Iterator[None]:
    """While entered, the stages `launched` are composed as tasks that start a job and wait for it, without a GPU.

    The others ask for what the set `requests` and the platform say. All carry what the platform has for all.
    """
    token = _choice.set(choice)
    try:
        yield
    finally:
        _choice.reset(token)


@contextmanager
def naming(names: Mapping[str, Any]) -> Iterator[None]:
    """While entered, these inputs of the pipeline give what its platform leaves open."""
    with composing(replace(_choice.get(), names=names)):
        yield


def launched(*stages: str) -> dict[str, str]:
    """Those of these stages that start jobs in the pipeline that is composed, and what the platform says of them."""
    choice = _choice.get()
    found = [stage for stage in stages if stage in choice.launched]
    return {"launched": ",".join(found), "workers": choice.platform.workers(found)}


def placed(task: dsl.PipelineTask, gpus: dsl.PipelineTask | str | None = None) -> dsl.PipelineTask:
    """A pod for the work of a stage, with what the chosen requests give it.

    `gpus` is an output of an earlier task with their number, as text, for a stage that may have nothing to do with
    one: a cluster takes it only from one that the task has as an input, too. A stage that is launched only waits.
    """
    stage = task.component_spec.name
    choice = _choice.get()
    if stage in choice.launched:  # what its section says is for the workers
        waiting = task.set_container_image(images.ref("launch"))
        common = {name: value for name, value in choice.platform.common.items() if name != "timeout_s"}
        return _asking(waiting, WAITING, common).set_memory_limit(MOST_WAITING)
    settings = choice.platform.of(stage)
    asked = asks(stage, choice.requests, choice.platform)
    if gpus is not None and asked.gpus > 1:
        raise ConfigError(f"platform: {stage}.gpus is {asked.gpus}; it uses one, give 0 or 1")
    _asking(task, asked, settings)
    if asked.gpus:
        task.set_accelerator_type(settings.get("gpu_resource", GPU))
        task.set_accelerator_limit(asked.gpus if gpus is None else gpus)
    return task


def asks(stage: str, requests: str, platform: Platform) -> Request:
    """What the task of a stage asks for: by the set of this name, and over it by its section of the platform."""
    said = platform.sections.get(stage, {})
    names = {"cpus": "cpu", "memory": "memory", "gpus": "gpus"}
    given = {name: said[given] for given, name in names.items() if given in said}
    return replace(REQUESTS[requests or platform.of_runs.get("requests", STANDARD)].get(stage, LIGHT), **given)


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """A pod for a task that only reads and writes documents."""
    choice, stage = _choice.get(), task.component_spec.name
    return _asking(task, asks(stage, choice.requests, choice.platform), choice.platform.of(stage))


def _asking(task: dsl.PipelineTask, asked: Request, settings: Mapping[str, Any]) -> dsl.PipelineTask:
    """Run it every time: whether there is anything to do is decided from the store, not from Kubeflow's cache.

    In the graph it bears what its component says of itself. Its pod may run where Pod Security is `restricted`.
    """
    task.set_caching_options(False)
    task.set_display_name(f"{task.component_spec.name}: {(task.component_spec.description or '').rstrip('.')}")
    kubernetes.set_security_context(task, run_as_non_root=True)  # the rest of `restricted` Kubeflow adds itself
    for variable, path in ITSELF.items():
        kubernetes.use_field_path_as_env(task, variable, path)
    task.set_env_variable(provenance.IMAGE, task.container_spec.image)
    choice = _choice.get()
    carry(task, settings, choice.names)
    mark(task, choice.platform)
    return task.set_cpu_request(asked.cpu).set_memory_request(asked.memory)
