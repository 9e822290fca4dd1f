"""Training runs that differ in some settings, on one data set, compared by one suite."""

from typing import Any

from kfp import dsl

from components.evaluate import evaluate
from components.select import select
from components.sweep import sweep as prepare
from components.train import train
from pipelines.hardware import launched, placed, uncached

NAME = "hqclip-sweep"
DESCRIPTION = "Train CLIP with several settings on one data set, and compare the results."


def sweep(settings: dict[str, Any]) -> None:
    """Train and judge every trial, and compare them."""
    prepared = uncached(prepare(**settings, **launched("train", "evaluate")))
    the_plan = prepared.outputs["planned"]
    with dsl.If(prepared.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
        with dsl.ParallelFor(prepared.outputs["trials"], name="trials", parallelism=4) as trial:
            trained = placed(train(planned=the_plan, curated=prepared.outputs["curated"], trial=trial))
            evaluated = placed(evaluate(planned=the_plan, trained=trained.outputs["trained"]))
        uncached(select(planned=the_plan, evaluated=dsl.Collected(evaluated.outputs["evaluated"])))
