"""Choose the best candidate of a cycle."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("promote"), install_kfp_package=False)
def promote(
    planned: dsl.Input[dsl.Dataset],
    curated: dsl.Input[dsl.Dataset],
    evaluated: dsl.Input[list[dsl.Dataset]],
    promoted: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    card: dsl.Output[dsl.Markdown],
    report: dsl.Output[dsl.HTML],
):
    """Choose the best candidate of a cycle, put it in force if it beats the champion, and write the report."""
    from hqclip.task import run_planned

    results = [curated.path, *(one.path for one in evaluated)]
    run_planned(
        "promote",
        planned.path,
        results,
        write_to=promoted.path,
        log=metrics.log_metric,
        page=report.path,
        card=card.path,
    )
