"""The first half of a cycle: a pool in, a refined data set version out."""

from __future__ import annotations

from kfp import dsl

from components.annotate import annotate
from components.curate import curate
from components.download import download
from components.score import score
from pipelines.hardware import placed


def refined(planned: dsl.PipelineTask) -> dsl.PipelineTask:
    """Download, annotate, score by the champion's judgement if there is a champion, curate, as `plan` decided."""
    the_plan, gpus = planned.outputs["planned"], planned.outputs["score_gpus"]
    downloaded = placed(download(planned=the_plan)).outputs["downloaded"]
    annotated = placed(annotate(planned=the_plan, downloaded=downloaded)).outputs["annotated"]
    scoring = score(planned=the_plan, downloaded=downloaded, annotated=annotated, gpus=gpus)
    scored = placed(scoring, gpus=gpus).outputs["scored"]
    return placed(curate(planned=the_plan, downloaded=downloaded, annotated=annotated, scored=scored))
