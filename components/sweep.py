"""Prepare a sweep."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("sweep"), install_kfp_package=False)
def sweep(
    store: str,
    suite: str,
    trials: str,
    dataset: str,
    preset: str,
    overrides: str,
    seed: int,
    launch: str,
    launched: str,
    planned: dsl.Output[dsl.Dataset],
    curated: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
) -> bool:
    """Prepare a sweep: check every trial, and say whether there is anything to do."""
    from hqclip.task import run_first

    return run_first("sweep", locals(), write_to=planned.path, also=curated.path, card=card.path)["has_work"]
