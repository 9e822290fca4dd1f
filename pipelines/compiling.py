"""`python -m pipelines compile`: a pipeline as the YAML that Kubeflow takes; the same source gives the same bytes."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Collection
from pathlib import Path

from kfp import compiler, dsl

from hqclip.config import did_you_mean
from hqclip.errors import ConfigError
from pipelines.hardware import LAUNCHABLE, launching

PIPELINES = ("refine", "annotate", "sweep", "evaluate")
HELP = "write the YAML that Kubeflow takes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("-o", "--output", type=Path, help="YAML file (default: PIPELINE.yaml)")
    parser.add_argument(
        "--launched",
        default="",
        metavar="STAGES",
        help=f"stages that start a job and wait for it, out of {','.join(LAUNCHABLE)}: runs want the input plan_launch",
    )


def run(given: argparse.Namespace) -> int:
    """Compile, and say where."""
    print(compile_pipeline(given.pipeline, given.output or Path(f"{given.pipeline}.yaml"), _stages(given.launched)))
    return 0


def compile_pipeline(name: str, output: Path, launched: Collection[str] = ()) -> Path:
    """Write the compiled pipeline. The stages `launched` start jobs."""
    module = importlib.import_module(f"pipelines.{name}")
    with launching(launched):
        pipeline = dsl.pipeline(name=module.NAME, description=module.DESCRIPTION)(getattr(module, name))
    compiler.Compiler().compile(pipeline, str(output))
    return output


def _stages(text: str) -> list[str]:
    """Stages of a comma separated list. Raises `ConfigError`."""
    stages = [stage.strip() for stage in text.split(",") if stage.strip()]
    for stage in stages:
        if stage not in LAUNCHABLE:
            known = ", ".join(LAUNCHABLE)
            raise ConfigError(
                f"--launched: {stage!r} cannot be launched{did_you_mean(stage, LAUNCHABLE)}; one of {known}"
            )
    return stages
