"""Open a cycle."""

from typing import Any, Dict, List, NamedTuple  # noqa: UP035 - by these words Kubeflow knows what an item is

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
    train_seed: str,
    overrides: str,
    launch: str,
    budget: float,
    budget_dollars: float,
    gpu_prices: str,
    launched: str,
    workers: str,
    owner: str,
    planned: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
) -> NamedTuple("Plan", [("Output", bool), ("trials", List[Dict[str, Any]]), ("score_gpus", str)]):  # type: ignore[valid-type] # noqa: UP006
    """Open a cycle: check every setting, say whether there is work and whether scores want a GPU, list trainings."""
    from hqclip.task import run_first

    result = run_first("plan", locals(), write_to=planned.path, card=card.path)
    return result["has_work"], result["trials"], result["score_gpus"]
