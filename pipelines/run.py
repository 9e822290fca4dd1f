"""`python -m pipelines run`: a pipeline on a cluster, or with --local or --docker on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from hqclip.errors import ConfigError
from hqclip.presets import PRESETS
from pipelines.client import runs
from pipelines.run_local import run_local

HERE = {"cycles": 1, "out": Path("demo-out")}  # flags that only make sense on this machine
THERE = (
    *("version", "name", "service_account", "pipeline_root", "requests", "platform", "allow_tags", "wait", "dry_run"),
    "host",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    runs.add_arguments(parser)
    parser.add_argument("--preset", choices=PRESETS, help="named settings of all stages: the input plan_preset")
    runs.add_budget_arguments(parser)
    here = parser.add_argument_group("on this machine")
    where = here.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="one process a task")
    where.add_argument("--docker", action="store_true", help="one container a task, in the images")
    here.add_argument("--cycles", type=int, choices=range(1, 100), metavar="N", help="turns of a demo (1)")
    here.add_argument("--out", type=Path, help="where everything is written (demo-out)")


def run(given: argparse.Namespace) -> int:
    """Run it here or there. Raises `ConfigError` for flags that would have no effect."""
    given.set = [*runs.budget_inputs(given), *given.set]
    if given.local or given.docker:
        _refuse(given, THERE, "is for runs on a cluster")
        _choose_preset(given)
        for name, default in {**HERE, "preset": "demo"}.items():
            if getattr(given, name) is None:
                setattr(given, name, default)
        return run_local(given)
    _refuse(given, tuple(HERE), "is for --local and --docker")
    _choose_preset(given)
    return runs.run(given)


def _choose_preset(given: argparse.Namespace) -> None:
    if given.preset:
        given.set.insert(0, f"plan_preset={given.preset}")


def _refuse(given: argparse.Namespace, flags: tuple[str, ...], why: str) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name in flags if getattr(given, name)]
    if wrong:
        raise ConfigError(f"{', '.join(wrong)} {why}")
