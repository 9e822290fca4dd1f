"""The inputs of every pipeline, and which settings of its first task they give: the one table of them.

Help, type and default of an input are those of its setting. An input is called after the stage it is about, because
the form of Kubeflow sorts by name.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin, get_type_hints

from hqclip.stages import STAGES
from pipelines.carried import PREFIX
from pipelines.hardware import naming

OWN = ("launched", "workers", "owner")  # settings of a first task that a pipeline gives itself


@dataclass(frozen=True)
class Inputs:
    """The stage of a pipeline's first task, and its settings by their names as inputs.

    `required` inputs must be given though the setting has a default; `fixed` are settings that this pipeline does not
    ask for, because they make it what it is.
    """

    stage: str
    settings: Mapping[str, str]
    required: Sequence[str] = ()
    fixed: Mapping[str, Any] = dataclasses.field(default_factory=dict)


_LIMITS = {
    "plan_budget": "budget",
    "plan_budget_dollars": "budget_dollars",
    "plan_gpu_prices": "gpu_prices",
}
_DATA = {
    "store": "store",
    "download_shards": "shards",
    "plan_preset": "preset",
    "plan_cycle": "cycle",
    "plan_overrides": "overrides",
    "plan_launch": "launch",
    **_LIMITS,
    "annotate_model": "annotate_model",
}
_TRAINING = {
    "evaluate_suite": "suite",
    "train_trials": "trials",
    "train_samples_seen": "train_samples_seen",
    "train_seed": "train_seed",
}
INPUTS = {
    "refine": Inputs("plan", {**_DATA, **_TRAINING}, required=["evaluate_suite"]),
    "annotate": Inputs("plan", _DATA, fixed={"trials": "", "data_only": True}),
    "sweep": Inputs(
        "sweep",
        {
            "store": "store",
            "evaluate_suite": "suite",
            "sweep_trials": "trials",
            "curate_dataset": "dataset",
            "plan_preset": "preset",
            "plan_overrides": "overrides",
            "plan_launch": "launch",
            **_LIMITS,
            "train_seed": "seed",
        },
    ),
    "evaluate": Inputs(
        "plan_evaluation",
        {
            "store": "store",
            "evaluate_suite": "suite",
            "evaluate_model": "model",
            "plan_preset": "preset",
            "plan_launch": "launch",
        },
    ),
}


def settings_of(pipeline: str, values: Mapping[str, Any]) -> Any:
    """The settings of a pipeline's first task, out of the inputs of a run. Raises `ConfigError`."""
    inputs = INPUTS[pipeline]
    given = {inputs.settings[name]: value for name, value in values.items() if name in inputs.settings}
    return STAGES[inputs.stage].settings.from_mapping({**given, **inputs.fixed})


def with_inputs(
    pipeline: str, compose: Callable[[dict[str, Any]], None], open_names: Mapping[str, str] | None = None
) -> Callable[..., None]:
    """`compose`, which takes the arguments of the first task, as a function of the inputs.

    It has the signature and the docstring out of which KFP reads types, defaults and descriptions. `open_names` are
    names of objects that the platform leaves to runs, and of what kind they are: further inputs.
    """
    inputs = INPUTS[pipeline]
    kind = STAGES[inputs.stage].settings
    fields, hints = {field.name: field for field in dataclasses.fields(kind)}, get_type_hints(kind)
    unasked = {name: _default(field) for name, field in fields.items() if name not in OWN} | dict(inputs.fixed)

    left = open_names or {}

    def composed(*channels: Any) -> None:
        first, names = channels[: len(inputs.settings)], channels[len(inputs.settings) :]
        with naming(dict(zip(left, names, strict=True))):
            compose({**unasked, **dict(zip(inputs.settings.values(), first, strict=True))})

    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=parameter_type(setting, hints[setting]),
            default=inspect.Parameter.empty if name in inputs.required else _default(fields[setting]),
        )
        for name, setting in inputs.settings.items()
    ]
    parameters += [
        inspect.Parameter(f"{PREFIX}{name}", inspect.Parameter.KEYWORD_ONLY, annotation=str) for name in left
    ]
    described = [f"{name}: {_sentence(fields[setting].metadata['help'])}" for name, setting in inputs.settings.items()]
    described += [f"{PREFIX}{name}: Name of the {kind} that the platform leaves open." for name, kind in left.items()]
    composed.__signature__ = inspect.Signature(parameters)
    composed.__doc__ = "\n    ".join([f"{compose.__doc__}\n\nArgs:", *described])
    return composed


def parameter_type(name: str, hint: Any) -> type:
    """What a setting is as a parameter of Kubeflow, which knows no tuples, and loses digits of integers above 2**53."""
    return str if get_origin(hint) is tuple or name.endswith("seed") else hint


def _default(field: dataclasses.Field[Any]) -> Any:
    """As the parameter has it: tuples with commas, seeds as text."""
    if field.default is dataclasses.MISSING:
        return inspect.Parameter.empty
    if isinstance(field.default, tuple):
        return ",".join(map(str, field.default))
    return str(field.default) if field.name.endswith("seed") else field.default


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
