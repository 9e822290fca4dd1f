"""Prepare a sweep."""

from typing import Any, Dict, List, NamedTuple  # noqa: UP035 - by these words Kubeflow knows what an item is

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
    seed: str,
    launch: str,
    budget: float,
    budget_dollars: float,
    gpu_prices: str,
    launched: str,
    workers: str,
    planned: dsl.Output[dsl.Dataset],
    curated: dsl.Output[dsl.Dataset],
    card: dsl.Output[dsl.Markdown],
) -> NamedTuple("Sweep", [("Output", bool), ("trials", List[Dict[str, Any]])]):  # type: ignore[valid-type] # noqa: UP006
    """Prepare a sweep: check every trial, say whether there is anything to do, and list the trials."""
    from hqclip.task import run_first

    result = run_first("sweep", locals(), write_to=planned.path, also=curated.path, card=card.path)
    return result["has_work"], result["trials"]
