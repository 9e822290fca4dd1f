"""What tasks run on: the only place that touches task settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from kfp import dsl, kubernetes

from components import images
from hqclip import task_records
from hqclip.stages import STAGES

GPU = "nvidia.com/gpu"
ITSELF = {
    task_records.RUN: "metadata.labels['pipeline/runid']",
    task_records.POD: "metadata.name",
    task_records.NODE: "spec.nodeName",
}  # environment: fields of its own pod by which a task knows where it runs
_launched: ContextVar[frozenset[str]] = ContextVar("launched", default=frozenset())


@contextmanager
def launching(stages: Collection[str]) -> Iterator[None]:
    """While entered, these stages are composed as tasks that start a job and wait for it, without a GPU themselves."""
    token = _launched.set(frozenset(stages))
    try:
        yield
    finally:
        _launched.reset(token)


def launched(*stages: str) -> str:
    """Those of these stages that start jobs in the pipeline that is composed, comma separated."""
    return ",".join(stage for stage in stages if stage in _launched.get())


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Run it every time: whether there is anything to do is decided from the store, not from Kubeflow's cache.

    In the graph it bears what its component says of itself. Its pod may run where Pod Security is `restricted`.
    """
    task.set_caching_options(False)
    task.set_display_name(f"{task.component_spec.name}: {(task.component_spec.description or '').rstrip('.')}")
    kubernetes.set_security_context(task, run_as_non_root=True)  # the rest of `restricted` Kubeflow adds itself
    for variable, field in ITSELF.items():
        kubernetes.use_field_path_as_env(task, variable, field)
    return task.set_env_variable(task_records.IMAGE, task.container_spec.image)


def placed(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """A pod for the work of a stage, with an accelerator if the table of stages says so.

    That of a stage that is launched only waits (benchmarks/launch_memory.md).
    """
    name = task.component_spec.name
    if name in _launched.get():
        waiting = uncached(task.set_container_image(images.ref("launch")))
        return waiting.set_cpu_request("250m").set_memory_request("256Mi").set_memory_limit("1Gi")
    if STAGES[name].accelerator:
        with_gpu = uncached(task).set_accelerator_type(GPU).set_accelerator_limit(1)
        return with_gpu.set_cpu_request("8").set_memory_request("32Gi")
    return uncached(task).set_cpu_request("4").set_memory_request("16Gi")
