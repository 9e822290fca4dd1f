"""Train CLIP on a data set version."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("train"), install_kfp_package=False)
def train(
    planned: dsl.Input[dsl.Dataset],
    curated: dsl.Input[dsl.Dataset],
    trial: dict,
    trained: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Train CLIP on a data set version, with the settings of one trial of the cycle."""
    from hqclip.task import run_planned

    run_planned("train", planned.path, [curated.path], trial=trial, write_to=trained.path, log=metrics.log_metric)
