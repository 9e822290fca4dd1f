"""Write four texts for every image of a pool."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("annotate"), install_kfp_package=False)
def annotate(
    planned: dsl.Input[dsl.Dataset],
    downloaded: dsl.Input[dsl.Dataset],
    annotated: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Write four texts for every image of a pool."""
    from hqclip.task import run_planned

    run_planned("annotate", planned.path, [downloaded.path], write_to=annotated.path, log=metrics.log_metric)
