"""What the first task of a pipeline would refuse is refused here, before anything is sent to a cluster."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hqclip.config import PlanConfig, PlanEvaluationConfig, SweepConfig
from hqclip.cycle import plan, sweep
from hqclip.presets import find_preset
from hqclip.settings import Settings


@dataclass(frozen=True)
class First:
    """The first task of a pipeline: its settings, what refuses them, and what the pipeline itself says of them."""

    kind: type[Settings]
    check: Callable[[Any], object]
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def setting(self, name: str) -> str:
        """What the input `name` gives: the setting called so, or so without the stage before it; empty for none."""
        known = {field.name for field in dataclasses.fields(self.kind)}
        return next((setting for setting in (name, name.partition("_")[2]) if setting in known), "")


FIRST = {
    "refine": First(PlanConfig, plan.resolve),
    "annotate": First(PlanConfig, plan.resolve, {"trials": ()}),
    "sweep": First(SweepConfig, sweep.resolve),
    "evaluate": First(PlanEvaluationConfig, lambda config: find_preset(config.preset)),
}


def check_settings(pipeline: str, inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` with every setting that is wrong; machines, shards and suite are for the cluster to read."""
    FIRST[pipeline].check(settings_of(pipeline, inputs))


def settings_of(pipeline: str, inputs: Mapping[str, Any]) -> Any:
    """The settings of a pipeline's first task, out of the inputs of a run. Raises `ConfigError`."""
    first = FIRST[pipeline]
    given = {setting: value for name, value in inputs.items() if (setting := first.setting(name))}
    return first.kind.from_mapping({**given, **first.fixed})
