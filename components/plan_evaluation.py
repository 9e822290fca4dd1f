"""Ask for a model to be judged."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("plan_evaluation"), install_kfp_package=False)
def plan_evaluation(
    store: str,
    model: str,
    suite: str,
    preset: str,
    launch: str,
    launched: str,
    workers: str,
    planned: dsl.Output[dsl.Dataset],
    trained: dsl.Output[dsl.Dataset],
):
    """Ask for one model to be judged, after a look at model and suite."""
    from hqclip.task import run_first

    run_first("plan_evaluation", locals(), write_to=planned.path, also=trained.path)
