"""`python -m pipelines lint`: what compiles but misbehaves, found in the YAML before Kubeflow sees it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hqclip.errors import ConfigError
from hqclip.store.leftovers import scratch_folder
from pipelines.compiling import PIPELINES, add_platform_argument, compile_pipeline
from pipelines.lint import lint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("what", nargs="*", help=f"pipelines or YAML files (all of {', '.join(PIPELINES)})")
    add_platform_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print what is wrong, a line each. Raises `ConfigError` if anything is."""
    found = 0
    compiled = [what for what in given.what if what not in PIPELINES]
    if given.platform and compiled:
        raise ConfigError(f"--platform is for pipelines that are compiled here; {compiled[0]} is compiled already")
    with scratch_folder() as folder:
        for what in given.what or PIPELINES:
            path = Path(what)
            if what in PIPELINES:
                path = compile_pipeline(what, folder / f"{what}.yaml", platform=given.platform)
            problems = lint(path)
            found += len(problems)
            for problem in problems:
                print(f"{what}: {problem}")
            if not problems:
                print(f"{what}: ok", file=sys.stderr)
    if found:
        raise ConfigError(f"{found} problems; see above")
    return 0
