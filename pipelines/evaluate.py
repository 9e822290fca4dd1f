"""Judge one model by one suite."""

from typing import Any

from components.evaluate import evaluate as judge
from components.plan_evaluation import plan_evaluation
from pipelines.hardware import launched, placed, uncached

NAME = "hqclip-evaluate"
DESCRIPTION = "Judge a CLIP zero-shot: classification, retrieval, compositional choice."


def evaluate(settings: dict[str, Any]) -> None:
    """One model, one suite."""
    prepared = uncached(plan_evaluation(**settings, **launched("evaluate")))
    placed(judge(planned=prepared.outputs["planned"], trained=prepared.outputs["trained"]))
