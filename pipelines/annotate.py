"""Data only: refine a pool into a data set version, and train nothing."""

from typing import Any

from kfp import dsl

from components.annotate import annotate as write_texts
from components.curate import curate
from components.download import download
from components.finish import finish
from components.plan import plan
from components.score import score
from pipelines.hardware import launched, placed, uncached

NAME = "hqclip-annotate"
DESCRIPTION = "Refine image-text data with an LVLM into a data set version; train nothing."


def annotate(settings: dict[str, Any]) -> None:
    """Data only, out of the champion's judgement if there is a champion."""
    owner = dsl.PIPELINE_JOB_ID_PLACEHOLDER
    finished = uncached(finish(store=settings["store"], owner=owner))
    with dsl.ExitHandler(finished, name="annotate"):
        planned = uncached(plan(**settings, launched=launched("annotate", "score"), owner=owner))
        the_plan = planned.outputs["planned"]
        with dsl.If(planned.outputs["Output"] == True, name="has-work"):  # noqa: E712 - KFP compares, it does not test
            downloaded = placed(download(planned=the_plan)).outputs["downloaded"]
            annotated = placed(write_texts(planned=the_plan, downloaded=downloaded)).outputs["annotated"]
            scored = placed(
                score(planned=the_plan, downloaded=downloaded, annotated=annotated, gpus=planned.outputs["score_gpus"]),
                gpus=planned.outputs["score_gpus"],
            ).outputs["scored"]
            placed(curate(planned=the_plan, downloaded=downloaded, annotated=annotated, scored=scored))
