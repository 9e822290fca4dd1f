"""`python -m pipelines run`: a pipeline on a cluster, or with --local or --docker on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path

from hqclip.presets import PRESETS
from pipelines.client import runs
from pipelines.here import run_here


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    runs.add_arguments(parser)
    here = parser.add_argument_group("on this machine")
    where = here.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="one process a task")
    where.add_argument("--docker", action="store_true", help="one container a task, in the images")
    here.add_argument("--preset", default="demo", choices=PRESETS, help="named settings of all stages (demo)")
    here.add_argument("--cycles", type=int, default=1, choices=range(1, 100), metavar="N", help="turns of a demo (1)")
    here.add_argument("--out", type=Path, default=Path("demo-out"), help="where everything is written (demo-out)")


def run(given: argparse.Namespace) -> int:
    """Run it here or there."""
    return run_here(given) if given.local or given.docker else runs.run(given)
