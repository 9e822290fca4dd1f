"""Clean the annotations by rule and make a data set version of them."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("curate"), install_kfp_package=False)
def curate(
    planned: dsl.Input[dsl.Dataset],
    downloaded: dsl.Input[dsl.Dataset],
    annotated: dsl.Input[dsl.Dataset],
    scored: dsl.Input[dsl.Dataset],
    curated: dsl.Output[dsl.Dataset],
    page: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Clean the annotations by rule and make a data set version of them."""
    from hqclip.task import run_planned

    run_planned(
        "curate",
        planned.path,
        [downloaded.path, annotated.path, scored.path],
        write_to=curated.path,
        log=metrics.log_metric,
        page=page.path,
    )
