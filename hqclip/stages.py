"""The table of stages: what each is, where its work is, and what it runs on. Everything else asks here.

Each stage is a function from frozen settings to a small result of plain values. The names in a result are the names
of the settings that take them, so what one stage found is handed to the next as it is. A stage's code is imported only
when it runs.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hqclip import log
from hqclip.config import (
    AnnotateConfig,
    CurateConfig,
    DownloadConfig,
    EvaluateConfig,
    PlanConfig,
    PlanEvaluationConfig,
    PromoteConfig,
    ScoreConfig,
    SelectConfig,
    SweepConfig,
    TrainConfig,
)
from hqclip.foreign import translated
from hqclip.settings import Settings


class Shape(StrEnum):
    """What a stage is on several machines: nothing but one process, replicas that share work, or one gang of ranks."""

    SINGLE = "single"
    REPLICAS = "replicas"
    GANG = "gang"


@dataclass(frozen=True)
class Stage:
    """`{module}.run(settings)` does the work, in a container of the image of this role."""

    module: str
    settings: type[Settings]
    image: str = "base"
    accelerator: bool = False
    shape: Shape = Shape.SINGLE
    progress: str = ""  # prefix of the store whose last key moves when work is done, with names of settings


STAGES = {
    "plan": Stage("hqclip.cycle.plan", PlanConfig),
    "download": Stage("hqclip.data.download", DownloadConfig),
    "annotate": Stage("hqclip.annotate.stage", AnnotateConfig, "annotate", accelerator=True, shape=Shape.REPLICAS),
    "score": Stage("hqclip.curate.score", ScoreConfig, "train", accelerator=True),
    "curate": Stage("hqclip.curate.stage", CurateConfig),
    "train": Stage(
        "hqclip.train.stage",
        TrainConfig,
        "train",
        accelerator=True,
        shape=Shape.GANG,
        progress="runs/{run}/checkpoints/",
    ),
    "evaluate": Stage("hqclip.evaluate.stage", EvaluateConfig, "train", accelerator=True, shape=Shape.GANG),
    "promote": Stage("hqclip.cycle.promote", PromoteConfig),
    "sweep": Stage("hqclip.cycle.sweep", SweepConfig),
    "select": Stage("hqclip.cycle.select", SelectConfig),
    "plan_evaluation": Stage("hqclip.cycle.plan_evaluation", PlanEvaluationConfig),
}
CYCLE = ("download", "annotate", "score", "curate", "train", "evaluate", "promote")  # what `plan` makes settings for
TRAINING = ("train", "evaluate", "promote")  # stages that a cycle of data only does without
# what the plan itself or an earlier stage gives to a stage
HANDED_ON = (
    *("store", "shards", "suite", "pool", "annotations", "scores", "champion", "parent"),
    *("dataset", "run", "evaluations", "plan"),
)
BY_HAND = {  # for the command of a stage alone, with what is wrong with it in a cycle or sweep
    "evaluate.limit": "such numbers decide nothing, so all that is trained would be for nothing; leave it out, and "
    "give --limit to `hqclip evaluate`",
}
LAUNCHABLE = tuple(name for name, stage in STAGES.items() if stage.accelerator)  # worth machines of their own


def run_stage(name: str, settings: Settings) -> dict[str, Any]:
    """Do the work of a stage in this process; its result. Raises what the stage raises, made ours if known."""
    log.debug(name, f"runs with {settings}")
    with translated():
        result: dict[str, Any] = importlib.import_module(STAGES[name].module).run(settings)
    return result
