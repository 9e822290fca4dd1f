"""Judge a model zero-shot: classification, retrieval, compositional choice."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("evaluate"), install_kfp_package=False)
def evaluate(
    planned: dsl.Input[dsl.Dataset],
    trained: dsl.Input[dsl.Dataset],
    evaluated: dsl.Output[dsl.Dataset],
    metrics: dsl.Output[dsl.Metrics],
    confusion: dsl.Output[dsl.ClassificationMetrics],
):
    """Judge a model zero-shot: classification, retrieval, compositional choice."""
    from hqclip.task import run_planned

    run_planned(
        "evaluate",
        planned.path,
        [trained.path],
        write_to=evaluated.path,
        log=metrics.log_metric,
        confusion=confusion.log_confusion_matrix,
    )
