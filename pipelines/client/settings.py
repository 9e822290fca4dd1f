"""What the first task of a pipeline would refuse is refused here, before anything is sent to a cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hqclip.config import PlanConfig, RequestConfig, Settings, SweepConfig
from hqclip.cycle import plan, sweep
from hqclip.presets import find_preset

PLANS = {
    "store": "store",
    "download_shards": "shards",
    "evaluate_suite": "suite",
    "plan_preset": "preset",
    "plan_cycle": "cycle",
    "plan_overrides": "overrides",
    "plan_launch": "launch",
    "annotate_model": "annotate_model",
    "train_points": "points",
    "train_samples_seen": "train_samples_seen",
    "train_seed": "train_seed",
}
SWEEPS = {
    "store": "store",
    "evaluate_suite": "suite",
    "sweep_points": "points",
    "curate_dataset": "dataset",
    "plan_preset": "preset",
    "plan_overrides": "overrides",
    "plan_launch": "launch",
    "train_seed": "seed",
}
REQUESTS = {
    "store": "store",
    "evaluate_suite": "suite",
    "evaluate_model": "model",
    "plan_preset": "preset",
    "plan_launch": "launch",
}


@dataclass(frozen=True)
class First:
    """The first task of a pipeline: its settings, what refuses them, and the inputs of the pipeline that give them."""

    kind: type[Settings]
    check: Callable[[Any], object]
    names: Mapping[str, str]
    fixed: Mapping[str, Any] = field(default_factory=dict)


FIRST = {
    "refine": First(PlanConfig, plan.resolve, PLANS),
    "annotate": First(PlanConfig, plan.resolve, PLANS, {"points": (), "suite": ""}),
    "sweep": First(SweepConfig, sweep.resolve, SWEEPS),
    "evaluate": First(RequestConfig, lambda config: find_preset(config.preset), REQUESTS),
}


def check_settings(pipeline: str, inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` with every setting that is wrong; machines, shards and suite are for the cluster to read."""
    FIRST[pipeline].check(settings_of(pipeline, inputs))


def settings_of(pipeline: str, inputs: Mapping[str, Any]) -> Any:
    """The settings of a pipeline's first task, out of the inputs of a run. Raises `ConfigError`."""
    first = FIRST[pipeline]
    given = {first.names[name]: value for name, value in inputs.items() if name in first.names}
    return first.kind.from_mapping({**given, **first.fixed})
