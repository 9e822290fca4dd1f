"""Open a cycle."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.of_stage("plan"), install_kfp_package=False)
def plan(
    store: str,
    shards: str,
    suite: str,
    preset: str,
    trials: str,
    data_only: bool,
    cycle: int,
    annotate_model: str,
    train_samples_seen: int,
    train_seed: int,
    overrides: str,
    launch: str,
    launched: str,
    owner: str,
    planned: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
) -> bool:
    """Open a cycle: check every setting, and say whether there is anything to do."""
    from hqclip.task import run_first

    return run_first("plan", locals(), write_to=planned.path, card=card.path)["has_work"]
