"""Words of a command line in, what they give to settings out: `--name value`, with help, and refusals that help."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from hqclip import log
from hqclip.completion import offer
from hqclip.deprecated import current_flags
from hqclip.errors import ConfigError
from hqclip.settings import Settings, did_you_mean

BOOLEANS = ("true", "false")
DRY_RUN = "dry_run"
SWITCHES = (DRY_RUN, "delete", "origin")  # settings whose flag takes no value
LOG_LEVEL, LOG_FORMAT = "log_level", "log_format"
CONFIG = "HQCLIP_CONFIG"  # the project file; `hqclip/project.py` reads it


class Parser(argparse.ArgumentParser):
    """Faults in flags end like every other fault in settings: one message, exit code 64."""

    def error(self, message: str) -> NoReturn:
        """Raises `ConfigError`."""
        raise ConfigError(message)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Flags that were given up are read as what they are called now."""
        known = [action.dest for action in self._actions]
        return super().parse_known_args(args and current_flags(args, known), namespace)


def read_flags(
    command: str,
    kinds: Sequence[type[Settings]],
    words: Sequence[str],
    *,
    dry_runs: Sequence[str] = ("settings",),
) -> tuple[list[dict[str, Any]], str]:
    """What is given to each kind of settings, and the kind of dry run that is wanted, empty for none.

    Raises `ConfigError`. No two kinds have a flag of the same name. How much is said is set here for all of hqclip.
    """
    parser = make_parser(command, kinds, dry_runs)
    known, unknown = parser.parse_known_args(list(words))
    given = vars(known)
    log.choose(given.pop(LOG_LEVEL, ""), given.pop(LOG_FORMAT, ""))
    choose_config(given.pop("config", ""))
    dry_run = "" if _has_own_dry_run(kinds) else given.pop(DRY_RUN, "")
    if unknown:
        flag, flags = unknown[0].partition("=")[0], [_flag(f) for kind in kinds for f in dataclasses.fields(kind)]
        raise ConfigError(
            f"unknown flag {unknown[0]!r}{did_you_mean(flag, flags)}; `hqclip {command} --help` lists them"
        )
    return [{f.name: given[f.name] for f in dataclasses.fields(kind) if f.name in given} for kind in kinds], dry_run


def make_parser(command: str, kinds: Sequence[type[Settings]], dry_runs: Sequence[str] = ("settings",)) -> Parser:
    """Flags for all fields of all kinds, the later ones in a group of their own, `--dry-run`, and how much is said.

    Settings with a field `dry_run` have one of their own. `SWITCHES` take no value.
    """
    parser = Parser(
        prog=f"hqclip {command}",
        description=(kinds[0].__doc__ or "").strip(),
        epilog="`hqclip --help` lists the exit codes.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for kind in kinds:
        group = parser.add_argument_group("settings of the stage") if kind is not kinds[0] else parser
        for field in dataclasses.fields(kind):
            if field.name in SWITCHES:
                group.add_argument(_flag(field), action="store_true", help=field.metadata["help"])
                continue
            action = group.add_argument(_flag(field), dest=field.name, metavar="VALUE", help=_help(field))
            offer(action, field.metadata["choices"] or (BOOLEANS if field.type == "bool" else ()))
    if not _has_own_dry_run(kinds):
        _add_dry_run(parser, dry_runs)
    _add_output(parser)
    add_config(parser)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """`--config`, which all commands have."""
    parser.add_argument("--config", metavar="FILE", help="project file (the nearest hqclip.yaml); none for none")


def choose_config(path: str | None) -> None:
    """Set the project file, for this process and those that it starts; an empty path leaves it as it is."""
    if path:
        os.environ[CONFIG] = path if path == "none" else str(Path(path).absolute())


def _has_own_dry_run(kinds: Sequence[type[Settings]]) -> bool:
    return any(field.name == DRY_RUN for kind in kinds for field in dataclasses.fields(kind))


def _flag(field: dataclasses.Field[Any]) -> str:
    return "--" + field.name.replace("_", "-")


def _add_dry_run(parser: argparse.ArgumentParser, dry_runs: Sequence[str]) -> None:
    if len(dry_runs) == 1:
        parser.add_argument(
            "--dry-run",
            action="store_const",
            const=dry_runs[0],
            help="print the resolved settings as JSON and stop",
        )
    else:
        parser.add_argument(
            "--dry-run",
            nargs="?",
            const=dry_runs[0],
            choices=dry_runs,
            help="print the object that would be created and stop; with =server the cluster checks it first",
        )


def _add_output(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is said on stderr")
    level = group.add_mutually_exclusive_group()
    for words, value, text in (
        (("-v", "--verbose"), "debug", "say more: requests, tries, resolved settings"),
        (("-q", "--quiet"), "warning", "say only what does not go as it should"),
    ):
        level.add_argument(*words, dest=LOG_LEVEL, action="store_const", const=value, help=text)
    group.add_argument("--log-format", dest=LOG_FORMAT, choices=log.FORMATS, help="one JSON object a line, or text")


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata["help"])
    if field.metadata["choices"]:
        text += f"; one of {', '.join(field.metadata['choices'])}"
    default = "required" if field.default is dataclasses.MISSING else f"default {field.default!r}"
    return f"{text} ({default})".replace("%", "%%")
