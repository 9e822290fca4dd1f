"""Bring shards into the store: verified, indexed, counted."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("download"), install_kfp_package=False)
def download(
    planned: dsl.Input[dsl.Dataset],
    downloaded: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
):
    """Bring shards into the store: verified, indexed, counted."""
    from hqclip.task import run_planned

    run_planned("download", planned.path, [], write_to=downloaded.path, log=metrics.log_metric)
