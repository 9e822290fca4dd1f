"""`python -m pipelines VERB`: compile, run, watch and schedule the pipelines."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import NoReturn

from hqclip.errors import ConfigError, HQClipError
from pipelines.compiling import compile_pipeline

__all__ = ["compile_pipeline", "main"]

VERBS = {
    "compile": "pipelines.compiling",
    "lint": "pipelines.lint",
    "upload": "pipelines.versions",
    "list": "pipelines.listing",
    "run": "pipelines.running",
    "status": "pipelines.tasks",
    "logs": "pipelines.pods",
    "explain": "pipelines.explain",
    "cancel": "pipelines.cancel",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, 1 if a task failed, else that of the fault."""
    try:
        given = _parser().parse_args(argv)
        code: int = given.act(given)
    except HQClipError as error:
        print(f"pipelines: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pipelines: interrupted", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m pipelines", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for name, path in VERBS.items():
        module = importlib.import_module(path)
        verb = verbs.add_parser(name, help=module.HELP, description=module.__doc__, allow_abbrev=False)
        module.add_arguments(verb)
        verb.set_defaults(act=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
