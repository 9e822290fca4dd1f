"""`python -m pipelines compile|run`: pipelines as YAML, or executed on this machine by Kubeflow's own local runner."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import NoReturn

from kfp import compiler, dsl

from hqclip.config import did_you_mean
from hqclip.errors import ConfigError, HQClipError
from hqclip.presets import PRESETS
from pipelines.demo import SIZES, demo_inputs
from pipelines.hardware import LAUNCHABLE, launching
from pipelines.local import Runner, show_cycle

PIPELINES = ("refine",)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, 1 if a task failed, else that of the fault."""
    try:
        given = _parser().parse_args(argv)
        if given.verb == "compile":
            output = given.output or Path(f"{given.pipeline}.yaml")
            print(compile_pipeline(given.pipeline, output, _stages(given.launched)))
            return 0
        return _run(given)
    except HQClipError as error:
        print(f"pipelines: {error}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m pipelines", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    compiling = verbs.add_parser("compile", help="write the YAML that Kubeflow takes")
    compiling.add_argument("pipeline", choices=PIPELINES)
    compiling.add_argument("-o", "--output", type=Path, help="YAML file (default: PIPELINE.yaml)")
    compiling.add_argument(
        "--launched",
        default="",
        metavar="STAGES",
        help=f"stages that start a job and wait for it, out of {','.join(LAUNCHABLE)}: runs want the input plan_launch",
    )
    running = verbs.add_parser("run", help="execute a pipeline on this machine, one process a task")
    running.add_argument("pipeline", choices=PIPELINES)
    running.add_argument("--local", action="store_true", required=True, help="with Kubeflow's local runner")
    running.add_argument("--preset", default="demo", choices=PRESETS, help="named settings of all stages (demo)")
    running.add_argument(
        "--cycles", type=int, default=1, choices=range(1, 100), metavar="N", help="turns of a demo (1)"
    )
    running.add_argument("--out", type=Path, default=Path("demo-out"), help="where everything is written (demo-out)")
    running.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", help="a pipeline input")
    return parser


def _run(given: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as folder:
        runner = Runner(compile_pipeline(given.pipeline, Path(folder) / "pipeline.yaml"), given.out / "tasks")
        chosen = runner.parse_inputs(given.set)
        for cycle in range(1, given.cycles + 1):
            prepared = demo_inputs(given.preset, given.out, cycle) if given.preset in SIZES else {}
            inputs = {**prepared, "plan_preset": given.preset, **chosen}
            code = runner.run(inputs)
            if code:
                return code
            show_cycle(inputs["store"], inputs.get("plan_cycle", 0))
    return 0


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


def compile_pipeline(name: str, output: Path, launched: Collection[str] = ()) -> Path:
    """Write the compiled pipeline; the same source gives the same bytes. The stages `launched` start jobs."""
    module = importlib.import_module(f"pipelines.{name}")
    with launching(launched):
        pipeline = dsl.pipeline(name=module.NAME, description=module.DESCRIPTION)(getattr(module, name))
    compiler.Compiler().compile(pipeline, str(output))
    return output


if __name__ == "__main__":
    sys.exit(main())
