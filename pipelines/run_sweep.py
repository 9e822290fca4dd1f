"""`python -m pipelines sweep`: training runs that differ in some settings, of a grid or a list.

With --mode loop one run on the cluster trains all trials, compares them and names the best. With --mode runs each
trial is a run of its own, which can be cancelled or cloned by itself; `compare RUN RUN ...` puts them side by side.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hqclip.cycle.sweep import read_trials
from hqclip.errors import ConfigError, HQClipError, NotFoundError
from hqclip.presets import PRESETS
from hqclip.strict_json import read_json
from hqclip.strict_yaml import read_yaml
from pipelines.client import connect, output
from pipelines.client.inputs import Definitions, definitions, read_inputs, read_said, require
from pipelines.client.output import say, say_next, show
from pipelines.client.project_inputs import with_project
from pipelines.client.runs import (
    EXPERIMENT,
    POLL_S,
    account_of,
    add_budget_arguments,
    add_input_arguments,
    budget_inputs,
    run_name,
    start_run,
)
from pipelines.client.settings import check_for_cluster, check_settings
from pipelines.client.versions import (
    Package,
    check_images,
    chosen,
    ensure_uploaded,
    find_version,
    known_pipeline,
    read_package,
)
from pipelines.client.wait import check_waiting, wait_and_tell
from pipelines.compiling import add_platform_argument, add_requests_argument, add_tags_argument
from pipelines.run_local import run_local

PIPELINE = "sweep"
Trial = Mapping[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="train.SETTING=A,B",
        help="values to try; several grids give all combinations, at most 16",
    )
    parser.add_argument("--list", type=Path, metavar="FILE", help="further trials as YAML or JSON: a list of settings")
    parser.add_argument("--mode", choices=("loop", "runs"), default="loop", help="one run for all, or one each (loop)")
    parser.add_argument("--dry-run", action="store_true", help="show the trials, and start nothing")
    add_input_arguments(parser)
    parser.add_argument("--preset", choices=PRESETS, help="named settings of all trials, as the input plan_preset")
    add_budget_arguments(parser)
    here = parser.add_argument_group("on this machine")
    where = here.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="one process a task")
    where.add_argument("--docker", action="store_true", help="one container a task, in the images")
    here.add_argument("--out", type=Path, default=Path("demo-out"), help="where everything is written (demo-out)")
    there = parser.add_argument_group("on a cluster")
    there.add_argument("--version", default="", help="an uploaded version, `latest`, or a channel (this checkout)")
    there.add_argument("--launched", default="", metavar="STAGES", help="as for compile")
    add_requests_argument(there)
    add_platform_argument(there)
    add_tags_argument(there)
    there.add_argument("--experiment", default=EXPERIMENT, help=f"what the runs belong to ({EXPERIMENT})")
    there.add_argument("--wait", action="store_true", help="until all have ended; exit 1 if one did not succeed")
    there.add_argument("--poll-s", type=float, default=POLL_S, help=f"most seconds between two looks ({POLL_S:g})")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Show the trials, or start them; the worst exit code of what was waited for."""
    check_waiting(given.poll_s)
    trials = make_trials(given.grid, given.list)
    if given.preset:
        given.set = [f"plan_preset={given.preset}", *given.set]
    given.set = [*budget_inputs(given), *given.set]
    package = None if given.version else read_package(PIPELINE, given.launched, given.requests, given.platform)
    flags = chosen(
        launched=given.launched, requests=given.requests, platform=given.platform, allow_tags=given.allow_tags
    )
    if given.version and (flags or given.local or given.docker):
        raise ConfigError(
            "--version names what is compiled and uploaded; leave out --launched, --requests, --platform, --allow-tags "
            "and --local"
        )
    if given.platform and (given.local or given.docker):
        raise ConfigError("--platform is for runs on a cluster")
    if package:
        inputs = _inputs(definitions(package.spec), given, trials)
    else:  # only the cluster knows their types
        inputs = {name: text for name, (text, _) in read_said(given.set, given.params).items()}
    preset = "demo" if (given.local or given.docker) else "small"
    nowhere = {"store": "-", "evaluate_suite": "-"}  # the demo makes its own
    check_settings(PIPELINE, {**nowhere, "plan_preset": preset, **inputs, "sweep_trials": json.dumps(trials)})
    if package and not (given.local or given.docker):
        check_for_cluster(PIPELINE, package.spec, {**inputs, "sweep_trials": json.dumps(trials)})
    _check_budget(given.mode, inputs)
    batches = [list(trials)] if given.mode == "loop" else [[trial] for trial in trials]
    say(f"{len(trials)} trials in {'one run' if len(batches) == 1 else f'{len(batches)} runs'}")
    if given.dry_run:
        names = dict.fromkeys(name for trial in trials for name in trial["settings"])
        show([{"name": p["name"], **{n: p["settings"].get(n) for n in names}} for p in trials], given.output)
        return 0
    if given.local or given.docker:
        return _run_here(given, batches, inputs)
    return _run_there(given, batches, package)


def _check_budget(mode: str, inputs: Mapping[str, Any]) -> None:
    """One for each run would be as many. Raises `ConfigError`."""
    given = [str(value) for name, value in inputs.items() if name in ("plan_budget", "plan_budget_dollars")]
    if mode == "runs" and any(value not in ("-1", "-1.0") for value in given):
        raise ConfigError("a budget is one for all trials of a run: leave it out, or --mode runs")


def make_trials(grids: Sequence[str], listed: Path | None) -> list[dict[str, Any]]:
    """The trials with their names, the same for the same flags. Raises `ConfigError`."""
    grid: dict[str, list[Any]] = {}
    for text in grids:
        name, equals, values = text.partition("=")
        if not equals or not values.strip(","):
            raise ConfigError(f"--grid {text}: give a setting and its values, such as train.learning_rate=1e-3,5e-4")
        if name.partition(".")[0] != "train" or "." not in name:
            raise ConfigError(
                f"--grid {text}: a sweep tries settings of training; give train.{name.rpartition('.')[2]}"
            )
        if name in grid:
            raise ConfigError(f"--grid {name} is given twice; put its values into one")
        grid[name] = [_value(value.strip()) for value in values.split(",") if value.strip()]
    given: list[dict[str, Any]] = read_trials(json.dumps(grid)) if grid else []
    given += _read_list(listed) if listed else []
    if not given:
        raise ConfigError("there is nothing to try: give --grid train.learning_rate=1e-3,5e-4, or --list FILE")
    trials = read_trials(json.dumps(given, default=str))  # a date is as good as its text
    alike: dict[str, str] = {}
    for trial in trials:
        settings = json.dumps(trial["settings"], sort_keys=True)
        if settings in alike:
            raise ConfigError(f"the trials {alike[settings]} and {trial['name']} are the same; leave one out")
        alike[settings] = trial["name"]
    return trials


def _run_here(given: argparse.Namespace, batches: Sequence[Sequence[Trial]], inputs: Mapping[str, Any]) -> int:
    """By the local runner, one after the other; stops at the first that fails."""
    for batch in batches:
        values = {**inputs, "sweep_trials": json.dumps(batch)}
        words = [f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()]
        about = {
            "pipeline": PIPELINE,
            "set": words,
            "params": None,
            "preset": values.get("plan_preset", "demo"),
            "cycles": 1,
        }
        code = run_local(argparse.Namespace(**{**vars(given), **about}))
        if code:
            return code
    return 0


def _run_there(given: argparse.Namespace, batches: Sequence[Sequence[Trial]], package: Package | None) -> int:
    """Start all on the cluster, then wait for them if that is wanted."""
    name = known_pipeline(PIPELINE)
    kubeflow = connect.connect(given)
    version: Any = None if package else find_version(kubeflow, name, given.version)
    known = definitions(package.spec if package else version.pipeline_spec or {})
    inputs = _inputs(known, given, [trial for batch in batches for trial in batch])
    require(known, {**inputs, "sweep_trials": "later"})
    _check_budget(given.mode, inputs)
    if version:
        check_for_cluster(PIPELINE, version.pipeline_spec or {}, inputs)
    if package is not None:
        check_images(package, tags_too=given.allow_tags)
        version, _ = ensure_uploaded(kubeflow, package)
    account = account_of(given.platform) or None
    rows: list[dict[str, Any]] = []
    try:
        for batch in batches:
            called = run_name(f"sweep {batch[0]['name']}" if given.mode == "runs" else name)
            all_inputs = {**inputs, "sweep_trials": json.dumps(batch)}
            started = start_run(kubeflow, called, given.experiment, version, all_inputs, service_account=account)
            link = kubeflow.link("runs", started.run_id)
            say(f"started run {started.run_id}{link and f': {link}'}")
            rows.append({"run": started.run_id, "name": called, "trials": ", ".join(trial["name"] for trial in batch)})
    except (HQClipError, KeyboardInterrupt):
        left = ", ".join(trial["name"] for batch in batches[len(rows) :] for trial in batch)
        say(f"{len(rows)} of {len(batches)} runs were started; not started: {left}")
        if rows:
            show(rows, given.output)
        raise
    codes = [0]
    if given.wait:
        for row in rows:
            _, code = wait_and_tell(kubeflow, row["run"], poll_s=given.poll_s, patience_s=given.patience_s)
            codes.append(code)
            row["exit_code"] = code
            if code in (130, 143):  # nobody waits for the others either
                break
    show(rows, given.output)
    say_next(*(kubeflow.command("status", row["run"]) for row in rows[:3]))
    return max(codes)


def _inputs(known: Definitions, given: argparse.Namespace, trials: Sequence[Trial]) -> dict[str, Any]:
    """What is given of them, over what the project says of what the trials leave open."""
    said = {**read_inputs(known, given.set, given.params), "sweep_trials": json.dumps(list(trials))}
    here = given.local or given.docker  # a demo, mostly: `run_local` tells
    inputs = said if here else with_project(PIPELINE, known, said)
    return {name: value for name, value in inputs.items() if name != "sweep_trials"}


def _read_list(path: Path) -> list[dict[str, Any]]:
    """Trials of a file: settings, or name and settings. Raises `ConfigError`, `NotFoundError`."""
    try:
        listed = read_yaml(path.read_text(encoding="utf-8"), f"--list {path}")
    except FileNotFoundError:
        raise NotFoundError(f"--list {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--list {path}: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
        raise ConfigError(f"--list {path}: give a list of trials, such as `- {{train.learning_rate: 0.001}}`")
    return [entry if "settings" in entry else {"settings": entry} for entry in listed]


def _value(text: str) -> Any:
    """A number or truth as JSON has it, else text."""
    try:
        return read_json(text)
    except ValueError:
        return text
