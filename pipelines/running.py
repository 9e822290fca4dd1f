"""`python -m pipelines run`: a pipeline on this machine or on a cluster."""

from __future__ import annotations

import argparse
from pathlib import Path

from hqclip.presets import PRESETS
from pipelines.compiling import PIPELINES
from pipelines.here import run_here

HELP = "execute a pipeline"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("--local", action="store_true", required=True, help="here, one process a task")
    parser.add_argument("--preset", default="demo", choices=PRESETS, help="named settings of all stages (demo)")
    parser.add_argument("--cycles", type=int, default=1, choices=range(1, 100), metavar="N", help="turns of a demo (1)")
    parser.add_argument("--out", type=Path, default=Path("demo-out"), help="where everything is written (demo-out)")
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", help="a pipeline input")


def run(given: argparse.Namespace) -> int:
    """Run it here."""
    return run_here(given)
