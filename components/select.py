"""Compare the trials of a sweep."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("select"), install_kfp_package=False)
def select(
    planned: dsl.Input[dsl.Dataset],
    evaluated: dsl.Input[list[dsl.Dataset]],
    selected: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    card: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
):
    """Compare the trials of a sweep, and name the best."""
    from hqclip.task import run_planned

    run_planned(
        "select",
        planned.path,
        [one.path for one in evaluated],
        write_to=selected.path,
        log=metrics.log_metric,
        page=report.path,
        card=card.path,
    )
