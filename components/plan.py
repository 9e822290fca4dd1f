"""Open a cycle."""

from kfp import dsl

from components import images


@dsl.component(base_image=images.ref("base"), install_kfp_package=False)
def plan(
    store: str,
    shards: str,
    suite: str,
    preset: str,
    trials: str,
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
    from hqclip.task import run_named

    given = {
        "store": store,
        "shards": shards,
        "suite": suite,
        "preset": preset,
        "trials": trials,
        "cycle": cycle,
        "annotate_model": annotate_model,
        "train_samples_seen": train_samples_seen,
        "train_seed": train_seed,
        "overrides": overrides,
        "launch": launch,
        "launched": launched,
        "owner": owner,
    }
    return run_named("plan", given, write_to=planned.path, card=card.path)["has_work"]
