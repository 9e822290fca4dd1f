"""What the first task of a pipeline would refuse is refused here, before anything is sent to a cluster."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from hqclip.stages import STAGES
from pipelines.inputs import INPUTS, settings_of


def check_settings(pipeline: str, inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` with every setting that is wrong; machines, shards and suite are for the cluster to read."""
    module = importlib.import_module(STAGES[INPUTS[pipeline].stage].module)
    module.resolve(settings_of(pipeline, inputs))
