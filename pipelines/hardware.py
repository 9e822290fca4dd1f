"""What tasks run on: the only place that touches task settings."""

from kfp import dsl

GPU = "nvidia.com/gpu"


def uncached(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """Run it every time: whether there is anything to do is decided from the store, not from Kubeflow's cache."""
    task.set_caching_options(False)
    return task


def on_cpu(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """A pod with a few cores."""
    return uncached(task).set_cpu_request("4").set_memory_request("16Gi")


def on_gpu(task: dsl.PipelineTask) -> dsl.PipelineTask:
    """A pod with one accelerator."""
    return (
        uncached(task)
        .set_accelerator_type(GPU)
        .set_accelerator_limit(1)
        .set_cpu_request("8")
        .set_memory_request("32Gi")
    )
