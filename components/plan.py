"""Open a cycle."""

from typing import NamedTuple

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
) -> NamedTuple("Plan", [("Output", bool), ("score_gpus", str)]):  # type: ignore[valid-type]
    """Open a cycle: check every setting, and say whether there is anything to do, and whether scores want a GPU."""
    from hqclip.task import run_first

    result = run_first("plan", locals(), write_to=planned.path, card=card.path)
    return result["has_work"], result["score_gpus"]
