"""What a cluster or the first task of a pipeline would refuse is refused here, before anything is sent."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from hqclip import __version__
from hqclip.stages import STAGES
from pipelines import lint
from pipelines.carried import PREFIX
from pipelines.client.inputs import definitions
from pipelines.client.machines import check_launch
from pipelines.client.versions import known_pipeline
from pipelines.inputs import INPUTS, settings_of


def check_run(name: str, release: str, spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """All of it, for a run of a version on a cluster. Raises `ConfigError`.

    `name` is that of the pipeline in Kubeflow, `release` what its version is called: what the inputs of another
    pipeline, or of one of another release, stand for is not known here.
    """
    ours = {known_pipeline(pipeline): pipeline for pipeline in INPUTS}
    if (
        name in ours
        and release.startswith(f"{__version__}-")
        and set(INPUTS[ours[name]].settings) == {known for known in definitions(spec) if not known.startswith(PREFIX)}
    ):
        check_settings(ours[name], inputs)
    check_for_cluster(name, spec, inputs)


def check_for_cluster(name: str, spec: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` for inputs that are too large together, and machines that do not fit the pipeline."""
    lint.check(spec, name, inputs)
    check_launch(spec, inputs)


def check_settings(pipeline: str, inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` with every setting that is wrong; machines, shards and suite are for the cluster to read."""
    module = importlib.import_module(STAGES[INPUTS[pipeline].stage].module)
    module.resolve(settings_of(pipeline, inputs))
