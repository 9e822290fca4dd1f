"""Prepare a sweep."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.ref("base"), install_kfp_package=False)
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
    card: dsl.Output[dsl.Markdown],
) -> bool:
    """Prepare a sweep: check every trial, and say whether there is anything to do."""
    from hqclip.task import run_named

    given = {
        "store": store,
        "suite": suite,
        "trials": trials,
        "dataset": dataset,
        "preset": preset,
        "overrides": overrides,
        "seed": seed,
        "launch": launch,
        "launched": launched,
    }
    return run_named("sweep", given, write_to=planned.path, card=card.path)["has_work"]
