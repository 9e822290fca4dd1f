"""`hqclip STAGE --flag value`: flags from config.py, the result as JSON on stdout, progress on stderr."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from hqclip import __version__
from hqclip.config import (
    CompareConfig,
    DemoTeachConfig,
    DemoWorldConfig,
    LineageConfig,
    PilotConfig,
    Settings,
    TeachConfig,
    did_you_mean,
)
from hqclip.errors import EXIT_CODES, ConfigError, HQClipError
from hqclip.stages import STAGES, report, run_stage


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb of the command line: its settings and what it does with them."""

    settings: type[Settings]
    run: Callable[[Any], dict[str, Any]]


def _lineage(settings: LineageConfig) -> dict[str, Any]:
    from hqclip.cycle.lineage import lineage

    return lineage(settings)


def _annotate_pilot(settings: PilotConfig) -> dict[str, Any]:
    from hqclip.annotate.pilot import pilot

    return pilot(settings)


def _annotate_compare(settings: CompareConfig) -> dict[str, Any]:
    from hqclip.annotate.pilot import compare

    return compare(settings)


def _teach(settings: TeachConfig) -> dict[str, Any]:
    from hqclip.teach.stage import run

    return run(settings)


def _demo_world(settings: DemoWorldConfig) -> dict[str, Any]:
    from hqclip.demo.world import make_world

    return make_world(settings)


def _demo_teach(settings: DemoTeachConfig) -> dict[str, Any]:
    from hqclip.demo.teach import run

    return run(settings)


def _stage(name: str) -> Command:
    return Command(STAGES[name].settings, lambda settings: run_stage(name, settings))


COMMANDS: dict[str, Command] = {
    **{name: _stage(name) for name in STAGES},
    "annotate pilot": Command(PilotConfig, _annotate_pilot),
    "annotate compare": Command(CompareConfig, _annotate_compare),
    "teach": Command(TeachConfig, _teach),
    "lineage": Command(LineageConfig, _lineage),
    "demo world": Command(DemoWorldConfig, _demo_world),
    "demo teach": Command(DemoTeachConfig, _demo_teach),
}


class _Parser(argparse.ArgumentParser):
    """Faults in flags end like every other fault in settings: one message, exit code 64."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if " ".join(words) in ("", "-h", "--help", "demo", "demo -h", "demo --help"):
        print(overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    name = " ".join(words[:2]) if words[0] == "demo" or " ".join(words[:2]) in COMMANDS else words[0]
    try:
        if name not in COMMANDS:
            raise ConfigError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; `hqclip --help` lists them")
        settings, dry_run = parse(name, words[len(name.split()) :])
        result = settings.to_mapping() if dry_run else COMMANDS[name].run(settings)
    except HQClipError as error:
        return report(name, error)
    except KeyboardInterrupt:
        print(f"hqclip {name}: interrupted; the same command continues", file=sys.stderr)
        return 130
    print(json.dumps(result, indent=1))
    return 0


def parse(name: str, words: Sequence[str]) -> tuple[Settings, bool]:
    """The settings that flags give, and whether only they are wanted. Raises `ConfigError`."""
    kind = COMMANDS[name].settings
    flags = {"--" + field.name.replace("_", "-"): field for field in dataclasses.fields(kind)}
    parser = _Parser(
        prog=f"hqclip {name}",
        description=(kind.__doc__ or "").strip(),
        epilog="`hqclip --help` lists the exit codes.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    for flag, field in flags.items():
        parser.add_argument(flag, dest=field.name, metavar="VALUE", help=_help(field))
    parser.add_argument("--dry-run", action="store_true", help="print the resolved settings as JSON and stop")
    known, unknown = parser.parse_known_args(list(words))
    given = vars(known)
    dry_run = given.pop("dry_run", False)
    if unknown:
        flag = unknown[0].partition("=")[0]
        raise ConfigError(f"unknown flag {unknown[0]!r}{did_you_mean(flag, flags)}; `hqclip {name} --help` lists them")
    return kind.from_mapping(given), dry_run


def _help(field: dataclasses.Field[Any]) -> str:
    text = str(field.metadata["help"])
    if field.metadata["choices"]:
        text += f"; one of {', '.join(field.metadata['choices'])}"
    default = "required" if field.default is dataclasses.MISSING else f"default {field.default!r}"
    return f"{text} ({default})".replace("%", "%%")


def overview() -> str:
    """What `hqclip --help` prints."""
    width = max(len(name) for name in COMMANDS) + 2
    verbs = "\n".join(f"  {name:{width}}{_first_line(command)}" for name, command in COMMANDS.items())
    codes = "\n".join(f"  {code:<5}{meaning}" for code, meaning in EXIT_CODES.items())
    return (
        "usage: hqclip COMMAND --flag value ...\n\n"
        "Refine image-text data with an LVLM and train CLIP on it.\n\n"
        f"commands:\n{verbs}\n\n"
        "`hqclip COMMAND --help` explains a command; `--dry-run` prints its resolved settings.\n"
        "Results are JSON on stdout, progress is on stderr.\n\n"
        f"exit codes:\n{codes}"
    )


def _first_line(command: Command) -> str:
    return (command.settings.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
