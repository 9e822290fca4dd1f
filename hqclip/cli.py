# PYTHON_ARGCOMPLETE_OK
"""`hqclip STAGE --flag value`: flags from config.py, the result as JSON on stdout, progress on stderr."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from hqclip import __version__, completion, log
from hqclip.config import (
    CompareConfig,
    ConfigShowConfig,
    CostConfig,
    DemoTeachConfig,
    DemoWorldConfig,
    ExportTransformersConfig,
    PilotConfig,
)
from hqclip.cycle.config import (
    ApproveConfig,
    CompareModelsConfig,
    ExportMlflowConfig,
    ExportModelRegistryConfig,
    HistoryConfig,
    LineageConfig,
    MigrateConfig,
    ReproduceConfig,
)
from hqclip.cycle.garbage.config import GcConfig
from hqclip.deprecated import COMMAND, current
from hqclip.distill.config import DistillConfig
from hqclip.errors import EXIT_CODES, ConfigError, HQClipError
from hqclip.evaluate.config import SuiteCheckConfig, SuiteImportConfig, SuiteShowConfig
from hqclip.flags import Parser, make_parser, read_flags
from hqclip.foreign import translated
from hqclip.launch.config import (
    JobsCancelConfig,
    JobsGcConfig,
    JobsListConfig,
    JobsLogsConfig,
    LaunchRenderConfig,
    LaunchRunConfig,
    ProfilesConfig,
)
from hqclip.models.config import ModelsFetchConfig
from hqclip.notify.config import NotifyTestConfig, WatchConfig
from hqclip.peek.config import PeekConfig
from hqclip.settings import Settings, did_you_mean
from hqclip.stages import STAGES, run_stage


@dataclasses.dataclass(frozen=True)
class Command:
    """A verb of the command line: its settings and what it does with them."""

    settings: type[Settings]
    run: Callable[[Any], dict[str, Any] | str]
    takes_stage: bool = False  # words for a stage of its own follow: `run(words)` reads them itself


def _lineage(settings: LineageConfig) -> dict[str, Any] | str:
    from hqclip.cycle.lineage import lineage

    return lineage(settings)


def _history(settings: HistoryConfig) -> dict[str, Any] | str:
    from hqclip.cycle.history.write import run

    return run(settings)


def _reproduce(settings: ReproduceConfig) -> dict[str, Any] | str:
    from hqclip.cycle.reproduce import check, reproduce, show

    found = reproduce(settings)
    result = show(found) if settings.format == "text" else found
    if found["missing"]:
        _print(result)  # what is there is told, too
        check(found)
    return result


def _export_mlflow(settings: ExportMlflowConfig) -> dict[str, Any]:
    from hqclip.cycle.export_mlflow import export

    return export(settings)


def _export_model_registry(settings: ExportModelRegistryConfig) -> dict[str, Any]:
    from hqclip.cycle.export_model_registry import export

    return export(settings)


def _approve(settings: ApproveConfig) -> dict[str, Any]:
    from hqclip.cycle.approve import run

    return run(settings)


def _compare(settings: CompareModelsConfig) -> dict[str, Any]:
    from hqclip.cycle.compare import run

    return run(settings)


def _cost(settings: CostConfig) -> dict[str, Any]:
    from hqclip.cycle.cost.estimate import run

    return run(settings)


def _gc(settings: GcConfig) -> dict[str, Any]:
    from hqclip.cycle.garbage.collect import run

    return run(settings)


def _annotate_pilot(settings: PilotConfig) -> dict[str, Any]:
    from hqclip.annotate.pilot import pilot

    return pilot(settings)


def _annotate_compare(settings: CompareConfig) -> dict[str, Any]:
    from hqclip.annotate.pilot import compare

    return compare(settings)


def _distill(settings: DistillConfig) -> dict[str, Any]:
    from hqclip.distill.stage import run

    return run(settings)


def _models_fetch(settings: ModelsFetchConfig) -> dict[str, Any]:
    from hqclip.models.fetch import run

    return run(settings)


def _export_transformers(settings: ExportTransformersConfig) -> dict[str, Any]:
    from hqclip.clip.export import run

    return run(settings)


def _launch_run(words: Sequence[str]) -> dict[str, Any]:
    from hqclip.launch.commands import run

    return run(words, sections())


def _launch_render(words: Sequence[str]) -> dict[str, Any]:
    from hqclip.launch.commands import show

    return show(words, sections())


def _launch_profiles(_: ProfilesConfig) -> dict[str, Any]:
    from hqclip.launch.profiles import read_profiles

    return read_profiles()


def _jobs(name: str) -> Callable[[Any], dict[str, Any]]:
    def run(settings: Any) -> dict[str, Any]:
        from hqclip.launch import jobs

        result: dict[str, Any] = getattr(jobs, name)(settings)
        return result

    return run


def _jobs_gc(settings: JobsGcConfig) -> dict[str, Any]:
    from hqclip.launch.janitor import collect_garbage

    return collect_garbage(settings)


def _peek(settings: PeekConfig) -> dict[str, Any] | str:
    from hqclip.peek.show import run

    return run(settings)


def _suite_import(settings: SuiteImportConfig) -> dict[str, Any]:
    from hqclip.evaluate.importing.command import run

    return run(settings)


def _suite(name: str) -> Callable[[Any], dict[str, Any]]:
    def run(settings: Any) -> dict[str, Any]:
        from hqclip.evaluate import commands

        result: dict[str, Any] = getattr(commands, name)(settings)
        return result

    return run


def _notify_test(_: NotifyTestConfig) -> dict[str, Any]:
    from hqclip.notify.outbox import send_test

    return send_test()


def _notify_watch(settings: WatchConfig) -> dict[str, Any]:
    from hqclip.cycle.absence import watch

    return watch(settings)


def _config_show(settings: ConfigShowConfig) -> dict[str, Any] | str:
    from hqclip.show_settings import show

    return show(settings, sections())


def _migrate(settings: MigrateConfig) -> dict[str, Any]:
    from hqclip.cycle.migrate import run

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
    "distill": Command(DistillConfig, _distill),
    "approve": Command(ApproveConfig, _approve),
    "peek": Command(PeekConfig, _peek),
    "lineage": Command(LineageConfig, _lineage),
    "history": Command(HistoryConfig, _history),
    "reproduce": Command(ReproduceConfig, _reproduce),
    "models fetch": Command(ModelsFetchConfig, _models_fetch),
    "export transformers": Command(ExportTransformersConfig, _export_transformers),
    "export mlflow": Command(ExportMlflowConfig, _export_mlflow),
    "export model-registry": Command(ExportModelRegistryConfig, _export_model_registry),
    "compare": Command(CompareModelsConfig, _compare),
    "cost": Command(CostConfig, _cost),
    "gc": Command(GcConfig, _gc),
    "migrate": Command(MigrateConfig, _migrate),
    "config show": Command(ConfigShowConfig, _config_show),
    "suite import": Command(SuiteImportConfig, _suite_import),
    "suite show": Command(SuiteShowConfig, _suite("show")),
    "suite check": Command(SuiteCheckConfig, _suite("check")),
    "launch run": Command(LaunchRunConfig, _launch_run, takes_stage=True),
    "launch render": Command(LaunchRenderConfig, _launch_render, takes_stage=True),
    "launch profiles": Command(ProfilesConfig, _launch_profiles),
    "jobs list": Command(JobsListConfig, _jobs("list_jobs")),
    "jobs logs": Command(JobsLogsConfig, _jobs("print_logs")),
    "jobs cancel": Command(JobsCancelConfig, _jobs("cancel_jobs")),
    "jobs gc": Command(JobsGcConfig, _jobs_gc),
    "notify test": Command(NotifyTestConfig, _notify_test),
    "notify watch": Command(WatchConfig, _notify_watch),
    "demo world": Command(DemoWorldConfig, _demo_world),
    "demo teach": Command(DemoTeachConfig, _demo_teach),
}


# first words that are no command themselves
GROUPS = ("demo", "export", "models", "suite", "launch", "jobs", "notify", "config")
SAID_EACH_TIME = ("approve", "demo world", "demo teach", "config show")  # nothing of them comes from a project file


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    if completion.is_asked():
        _complete(completion.words())
    words = list(sys.argv[1:] if argv is None else argv)
    if [word for word in words[:2] if word not in GROUPS][:1] in ([], ["-h"], ["--help"]):
        print(overview())
        return 0
    if words[0] == "--version":
        print(__version__)
        return 0
    name = _name(words)
    try:
        if name not in COMMANDS:
            raise ConfigError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)}; `hqclip --help` lists them")
        command, words = COMMANDS[name], words[len(name.split()) :]
        with translated():
            if command.takes_stage:
                result = command.run(words)
            else:
                settings, dry_run = parse(name, words)
                result = settings.to_mapping() if dry_run else command.run(settings)
    except HQClipError as error:
        return log.fault(name, error)
    except KeyboardInterrupt:
        print(f"hqclip {name}: interrupted; the same command continues", file=sys.stderr)
        return 130
    _print(result)
    return 0


def _print(result: dict[str, Any] | str) -> None:
    text = result if isinstance(result, str) else json.dumps(result, indent=1)
    print(text + "\n", end="")  # at one go: several ranks may share a pipe


def _name(words: Sequence[str]) -> str:
    """The command that words begin with, or what stands in its place."""
    two = " ".join(words[:2])
    return two if words[0] in GROUPS or two in COMMANDS else current(COMMAND, words[0], COMMANDS)


def _complete(words: list[str]) -> None:
    """Tell a shell what may come after these words: commands, stages, flags, values."""
    from hqclip.launch.commands import flag_kinds

    name, after, kinds = _name(words) if words else "", len(words), []
    split = [command.split() for command in COMMANDS]
    following = [parts[after] for parts in split if parts[:after] == words and len(parts) > after]
    if name in COMMANDS:
        command, after = COMMANDS[name], len(name.split())
        stage = words[after] if command.takes_stage and len(words) > after else ""
        kinds = flag_kinds(command.settings, stage)
        if command.takes_stage and not stage:
            following = list(STAGES)
        after += bool(stage)
    parser = make_parser(name, kinds) if kinds else Parser()
    if following:
        parser.add_argument("next", choices=dict.fromkeys(following))
    completion.answer(parser, after)


def parse(name: str, words: Sequence[str]) -> tuple[Settings, bool]:
    """The settings that flags give, and whether only they are wanted. Raises `ConfigError`."""
    kind = COMMANDS[name].settings
    (given,), dry_run = read_flags(name, [kind], words)
    if name not in SAID_EACH_TIME:
        from hqclip import project

        known, first = sections(), name.split()[0]
        given = project.load(known).under(first if first in known else "", kind, given)
    return kind.from_mapping(given), bool(dry_run)


def sections() -> dict[str, type[Settings]]:
    """The sections that a project file may have, and whose settings are in them."""
    return {name: made.settings for name, made in COMMANDS.items() if " " not in name and name not in SAID_EACH_TIME}


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
        "Results are JSON on stdout, or text where a command has --format; progress is on stderr.\n\n"
        f"exit codes:\n{codes}"
    )


def _first_line(command: Command) -> str:
    return (command.settings.__doc__ or "").strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
