"""What a training run can be made of: the losses as facts, and named ways to train with them. Standard library only.

The mathematics of a loss is in `hqclip/train/losses.py`, under the name that it has here. Weights and ramps are
settings of `TrainConfig`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Chart:
    """How a report draws a curve; `guessing` says what a model that knows nothing gets."""

    title: str
    sentence: str
    guessing: str = ""

    @property
    def caption(self) -> str:
        """A sentence for readers."""
        return f"{self.sentence}; {self.guessing}." if self.guessing else f"{self.sentence}."


@dataclass(frozen=True, kw_only=True)
class Loss:
    """`weight` names the setting of its weight ("": it counts as it is), `short` is that for the name of a trial.

    `ramp` names the setting that says over which share of the steps the weight rises from 0. A loss without weight is
    left out, but for those that are `always_measured`, so that recipes can be compared.
    """

    chart: Chart
    weight: str = ""
    short: str = ""
    ramp: str = ""
    always_measured: bool = False

    def weight_at(self, settings: Mapping[str, Any], done: float = 1.0) -> float:
        """What it counts with these settings when the share `done` of the steps is over; at the end 0 means off."""
        weight: float = settings.get(self.weight, 0.0) if self.weight else 1.0
        ramp: float = settings.get(self.ramp, 0.0)
        return weight * (min(1.0, done / ramp) if ramp else 1.0)


LOSSES = {
    "contrastive": Loss(
        chart=Chart("Contrast", "Finding the text of an image in the batch, and the other way round"),
    ),
    "negatives": Loss(
        weight="negative_weight",
        short="neg",
        ramp="negative_ramp",
        always_measured=True,
        chart=Chart(
            "Hard negatives",
            "Telling an image's own description from the false one",
            guessing="ln 2 = 0.69 is a coin toss",
        ),
    ),
    "tags": Loss(
        weight="tag_weight",
        short="tag",
        always_measured=True,
        chart=Chart("Tags", "Naming the tags of an image out of the vocabulary"),
    ),
}


@dataclass(frozen=True)
class Recipe:
    """A way of training: its `losses` by name, and what else it sets. A loss that is not named is off.

    What it sets of a weight wins over the default, so that a loss whose default is 0 can be named too.
    """

    about: str
    losses: tuple[str, ...]
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of the settings of training; presets and defaults say the rest."""
        off = [loss.weight for name, loss in LOSSES.items() if loss.weight and name not in self.losses]
        return {**self.more, **dict.fromkeys(off, 0.0)}


ALT_TEXT = {"generated_share": 0.0}  # the text of every image; the others leave the mixture to preset and default

RECIPES = {
    "raw": Recipe("alt-text only", ("contrastive",), ALT_TEXT),
    "mixed": Recipe("LVLM texts mixed with alt-text", ("contrastive",)),
    "hqclip": Recipe("mixed, with negatives and tags", ("contrastive", "negatives", "tags")),
}
