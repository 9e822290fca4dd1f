"""One whole turn of the cycle: refine the data, train on it, judge, put the winner in force."""

from typing import Any

from kfp import dsl

from components.evaluate import evaluate
from components.finish import finish
from components.plan import plan
from components.promote import promote
from components.train import train
from pipelines.data import refined
from pipelines.hardware import launched, placed, uncached

NAME = "hqclip-refine"
DESCRIPTION = "Refine image-text data with an LVLM, train CLIP on it, promote the better model."


def refine(settings: dict[str, Any]) -> None:
    """One whole turn of the cycle."""
    owner = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    finished = uncached(finish(store=settings["store"], owner=owner))
    with dsl.ExitHandler(finished, name="refine"):
        planned = uncached(plan(**settings, **launched("annotate", "score", "train", "evaluate"), owner=owner))
        the_plan = planned.outputs["planned"]
        with dsl.If(planned.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
            curated = refined(planned).outputs["curated"]
            with dsl.ParallelFor(planned.outputs["trials"], name="trials", parallelism=2) as trial:
                trained = placed(train(planned=the_plan, curated=curated, trial=trial))
                evaluated = placed(evaluate(planned=the_plan, trained=trained.outputs["trained"]))
            uncached(
                promote(planned=the_plan, curated=curated, evaluated=dsl.Collected(evaluated.outputs["evaluated"]))
            )
