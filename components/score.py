"""Similarity of every image to its texts under the champion CLIP."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("score"), install_kfp_package=False)
def score(
    planned: dsl.Input[dsl.Dataset],
    downloaded: dsl.Input[dsl.Dataset],
    annotated: dsl.Input[dsl.Dataset],
    gpus: str,  # noqa: ARG001 - for the pod: Kubeflow takes what one asks for from an input only
    scored: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Similarity of every image to its texts under the champion CLIP."""
    from hqclip.task import run_planned

    run_planned("score", planned.path, [downloaded.path, annotated.path], write_to=scored.path, log=metrics.log_metric)
