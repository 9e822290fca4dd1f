# PYTHON_ARGCOMPLETE_OK
"""`python -m pipelines VERB`: compile, run, watch and schedule the pipelines."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from hqclip import cli, completion, flags, project
from hqclip.errors import HQClipError
from hqclip.flags import Parser

CLOSED = 141  # as a shell says that a program wrote into a closed pipe
VERBS = {
    "compile": ("pipelines.compiling", "write the YAML that Kubeflow takes"),
    "lint": ("pipelines.linting", "find what compiles but misbehaves"),
    "platform": ("pipelines.platform_schema", "the JSON schema of platform files, for editors"),
    "upload": ("pipelines.client.versions", "put a pipeline into Kubeflow as a version, if its content is new"),
    "list": ("pipelines.client.listing", "pipelines in Kubeflow, or the versions of one"),
    "promote-version": ("pipelines.client.promote_version", "let schedules follow a version that was tried"),
    "rollback": ("pipelines.client.rollback", "let schedules follow again what they followed before"),
    "run": ("pipelines.run", "execute a pipeline"),
    "status": ("pipelines.client.status", "a run and its tasks, or the newest runs"),
    "logs": ("pipelines.client.logs", "what the tasks of a run said"),
    "explain": ("pipelines.client.explain", "which task of a run broke first, why, and what is next"),
    "cancel": ("pipelines.client.cancel", "delete the jobs of a run, then terminate it"),
    "sweep": ("pipelines.run_sweep", "train with several settings, and compare the results"),
    "schedule": ("pipelines.client.schedules", "recurring runs, as a YAML file says"),
    "compare": ("pipelines.client.compare", "models of runs side by side, with differences and intervals"),
    "cost": ("pipelines.client.cost", "images, tokens, GPU-hours and dollars of a cycle, before it is launched"),
    "doctor": ("pipelines.client.doctor", "whether everything is there that a run needs"),
}


def main(argv: list[str] | None = None) -> int:
    """The exit code: 0, 1 if a task failed, else that of the fault."""
    if completion.is_asked():
        before = completion.words()
        completion.answer(_parser(before[0] if before else ""))
    words = sys.argv[1:] if argv is None else argv
    try:
        given = _parser(words[0] if words else "").parse_args(words)
        flags.choose_config(given.config)
        _fill(given)
        code: int = given.act(given)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is flushed into it at the end
        return CLOSED
    except HQClipError as error:
        print(f"pipelines: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("pipelines: interrupted", file=sys.stderr)
        return 130
    return code


def _fill(given: argparse.Namespace) -> None:
    """What the project file says of Kubeflow, and the platform, if no flag says it and it is asked for."""
    found = project.load(cli.sections())
    given.project = found.filed(project.KFP)
    named = [getattr(given, "pipeline", ""), *getattr(given, "what", [])]
    is_compiled = any(str(name).endswith((".yaml", ".yml")) for name in named)
    elsewhere = is_compiled or any(getattr(given, name, None) for name in ("local", "docker", "version"))
    if getattr(given, "platform", None) == "" and not elsewhere and (platform := found.find(project.KFP, "platform")):
        given.platform = str(platform.value)


def _parser(chosen: str) -> argparse.ArgumentParser:
    """All verbs, and the flags of the chosen one: only its code is loaded."""
    parser = Parser(prog="python -m pipelines", description=__doc__, allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (path, about) in VERBS.items():
        verb = verbs.add_parser(name, help=about, allow_abbrev=False)
        if name == chosen:
            module = importlib.import_module(path)
            verb.description = module.__doc__
            module.add_arguments(verb)
            flags.add_config(verb)
            verb.set_defaults(act=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
