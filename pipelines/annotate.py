"""Data only: refine a pool into a data set version, and train nothing."""

from typing import Any

from kfp import dsl

from components.finish import finish
from components.plan import plan
from pipelines.data import refined
from pipelines.hardware import launched, uncached

NAME = "hqclip-annotate"
DESCRIPTION = "Refine image-text data with an LVLM into a data set version; train nothing."


def annotate(settings: dict[str, Any]) -> None:
    """Data only, out of the champion's judgement if there is a champion."""
    owner = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    finished = uncached(finish(store=settings["store"], owner=owner))
    with dsl.ExitHandler(finished, name="annotate"):
        planned = uncached(plan(**settings, **launched("annotate", "score"), owner=owner))
        with dsl.If(planned.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
            refined(planned)
