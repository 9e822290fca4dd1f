"""What a task of a pipeline does: a stage as the plan says, here or on other machines, and its results as files."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypedDict

from hqclip import log
from hqclip.backoff import pauses
from hqclip.cycle import lock, trials
from hqclip.cycle.attempt import Attempt, recorded
from hqclip.cycle.budget.keeper import kept
from hqclip.errors import (
    BudgetError,
    ConfigError,
    ConflictError,
    HQClipError,
    StoppedError,
    TimeLimitError,
    UnavailableError,
)
from hqclip.interruption import interruptible
from hqclip.process_watch import end_this_process, when_gone
from hqclip.stages import STAGES, run_stage
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json_or_warn

PASSING = (UnavailableError.exit_code, StoppedError.exit_code)  # what may be otherwise in a minute
TRIES = "HQCLIP_TASK_TRIES"  # environment variable
FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 240.0
MOST_EXACT = 2**53  # of the integers that a double holds
Exceeded = Callable[[], BudgetError | None]  # why a budget stops the work now, if it does
GRACE_S = 30.0  # for a checkpoint, once the runner of all tasks is gone


def run_planned(
    name: str,
    plan: str,
    results: Sequence[str] = (),
    *,
    trial: Mapping[str, Any] | None = None,
    **outputs: Any,
) -> dict[str, Any]:
    """Run a stage as the plan says, inside a pipeline task.

    `plan` and `results` are files with the results of `plan` (or another stage that prepares work) and of earlier
    stages; `trial` is the training run in turn. `outputs` are those of `run_named`.

    A trial that fails ends well for Kubeflow: its result is `failed`, kept in the store too, and nobody judges it.
    """
    planned = json.loads(Path(plan).read_text())
    earlier = [json.loads(Path(path).read_text()) for path in results]
    run = functools.partial(_run_planned, name, planned, earlier, trial=trial, **outputs)
    if name not in trials.STAGES:
        return run()
    result = trials.attempt(run, name, planned, before=earlier[0], trial=trial)
    if "failed" in result:
        save_result(result, outputs["write_to"])
    return result


def _run_planned(
    name: str,
    planned: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]],
    *,
    trial: Mapping[str, Any] | None,
    **outputs: Any,
) -> dict[str, Any]:
    """The stage, and a note of what it said."""
    known = {field.name for field in dataclasses.fields(STAGES[name].settings)}
    given = {**planned["settings"][name], **{k: v for result in earlier for k, v in result.items() if k in known}}
    if "evaluations" in known:
        given["evaluations"] = [result["evaluation"] for result in earlier if "evaluation" in result]
    if trial is not None:
        given = {**given, **trial["settings"], "run": f"{planned['runs']}{trial['name']}"}
    run = {"train": given.get("run", ""), "evaluate": given.get("model", "").removeprefix("runs/")}.get(name, "")
    trial_name = run.partition("/")[0].removeprefix(planned["runs"])
    owner = planned.get("owner", "")
    with recorded(name, given["store"], owner=owner, trial=trial_name) as attempt:
        machines = planned["machines"].get(name)
        with lock.held(open_store(given["store"]), owner, attempt.is_over), interruptible(), ExitStack() as stack:
            budget = None
            if STAGES[name].accelerator:
                keeper = stack.enter_context(kept(planned, given["store"], attempt, launched=bool(machines)))
                budget = keeper.exceeded
            result = _run(name, given, machines, Outputs(**outputs), attempt, budget)
        note = f"{planned['notes']}{name}-{trial_name}" if trial_name else f"{planned['notes']}{name}"
        _remember(given["store"], f"{note}.json", {**result, "owner": owner})
        trials.check(result)
    return result


def _remember(store_uri: str, key: str, result: Mapping[str, Any]) -> None:
    """Keep what a task said when it finished first, for the report; a second run that did nothing changes nothing."""
    store = open_store(store_uri)
    with contextlib.suppress(ConflictError):
        store.write(key, json.dumps(result, indent=1).encode())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outputs:
    """Where a task of a pipeline leaves what it found: files, but for `log`, which takes the name of a number and it.

    `write_to` gets the result, and `also` too, for a task that takes it in another role: Kubeflow hands no artifact to
    two inputs of one task. `page` gets its report, `card` what a person wants to know first, as Markdown; `confusion`
    takes the classes of the first classification benchmark and how often each was taken for which.
    """

    write_to: str
    also: str = ""
    log: Callable[[str, float], None] | None = None
    page: str = ""
    card: str = ""
    confusion: Callable[[list[str], list[list[int]]], None] | None = None


def run_named(name: str, given: Mapping[str, Any], **outputs: Any) -> dict[str, Any]:
    """Run a stage inside a pipeline task; `outputs` are those of `Outputs`.

    A fault that a person can mend is printed without a traceback and ends the process with its exit code.
    """
    with recorded(name, str(given.get("store", "")), owner=str(given.get("owner", ""))) as attempt:
        return _run(name, given, None, Outputs(**outputs), attempt)


def run_first(name: str, arguments: Mapping[str, Any], **outputs: Any) -> dict[str, Any]:
    """Run the stage that prepares a pipeline: its settings are those of the `arguments`, the `locals()` of its task.

    `outputs` are those of `run_named`.
    """
    known = {field.name for field in dataclasses.fields(STAGES[name].settings)}
    result = run_named(name, {key: value for key, value in arguments.items() if key in known}, **outputs)
    return {**result, "trials": [_exact(trial) for trial in result.get("trials", ())]}


def _run(
    name: str,
    given: Mapping[str, Any],
    machines: Mapping[str, Any] | None,
    to: Outputs,
    attempt: Attempt,
    budget: Exceeded | None = None,
) -> dict[str, Any]:
    """The work, here or on the machines of a launch spec, and what is left of it; a launcher asks for the `budget`."""
    _end_with_runner()

    def work() -> dict[str, Any]:
        if machines:
            return _launch(machines, name, given, attempt, budget)
        return run_stage(name, STAGES[name].settings.from_mapping(given, f"{name}."))

    result = again_if_passing(name, work)
    attempt.decides({**given, **result})
    if to.page:
        _write(to.page, open_store(given["store"]).read(result["report"]))
    if to.confusion:
        _show_confusion(open_store(given["store"]), result["confusion"], to.confusion)
    if "reason" in result:
        log.info(name, result["reason"])
    if to.card:
        _write(to.card, markdown(name, result).encode())
    if to.also:
        save_result(result, to.also)
    save_result(result, to.write_to, to.log)
    return result


def again_if_passing(name: str, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `work` gives, after a few tries where what keeps it from that may pass; Kubeflow itself tries nothing again.

    `HQCLIP_TASK_TRIES` says how often it is tried in all; with 3, it has waited for one and a half to three minutes.
    """
    for pause_s in pauses(_tries(), first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S):
        try:
            return work()
        except HQClipError as error:
            may_pass = error.exit_code in PASSING and not isinstance(error, TimeLimitError)
            if not may_pass or pause_s is None:
                raise
            log.warning(name, f"{error}; this may pass, so it is tried again in {pause_s:.0f} s")
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _tries() -> int:
    given = os.environ.get(TRIES, "3")
    if not given.isdecimal() or not 1 <= int(given) <= 20:
        raise ConfigError(f"{TRIES} is {given!r}; give how often a task tries what may pass, 1 to 20")
    return int(given)


def _exact(trial: Mapping[str, Any]) -> dict[str, Any]:
    """A trial as Kubeflow hands it on, for which numbers are floats: integers that are none, such as seeds, as text."""
    is_lost = {name: isinstance(v, int) and abs(v) > MOST_EXACT for name, v in trial["settings"].items()}
    settings = {name: str(value) if is_lost[name] else value for name, value in trial["settings"].items()}
    return {**trial, "settings": settings}


def _end_with_runner() -> None:
    """In a run on this machine a task ends with the runner of all tasks, however that went; else its pod sees to it."""
    runner = lock.runner_pid(lock.owner_of(""))
    if runner and runner != os.getpid():
        when_gone(runner, functools.partial(end_this_process, GRACE_S))


class _Confusion(TypedDict):
    classes: list[str]
    matrix: list[list[int]]


def _show_confusion(store: Store, key: str, show: Callable[[list[str], list[list[int]]], None]) -> None:
    """Of the first benchmark that has one; a damaged one is left out with a warning."""
    told = read_json_or_warn(store, key, "evaluate", dict[str, _Confusion]) if store.exists(key) else {}
    for first in list((told or {}).values())[:1]:
        show(first["classes"], first["matrix"])


def _write(path: str, data: bytes) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(data)


def _launch(
    machines: Mapping[str, Any], name: str, given: Mapping[str, Any], attempt: Attempt, budget: Exceeded | None
) -> dict[str, Any]:
    from hqclip.launch.run import launch
    from hqclip.launch.spec import LaunchSpec

    spec = LaunchSpec.from_mapping(machines, "launch.")
    return launch(spec, name, given, tell=attempt.launches, budget=budget)


def save_result(result: Mapping[str, Any], write_to: str, log: Callable[[str, float], None] | None = None) -> None:
    """The result as a JSON file, and every number in it as a metric."""
    _write(write_to, (json.dumps(result, indent=1) + "\n").encode())
    if log:
        for metric, value in numbers(result).items():
            log(metric, value)


def markdown(name: str, result: Mapping[str, Any]) -> str:
    """A result as a card: why, a table if it has one, and what there is to look at."""
    title = {"plan": "Cycle {cycle}", "promote": "Cycle {cycle}: {verdict}", "select": "Sweep: {best}"}.get(name, name)
    lines = [f"# {title.format(**result)}", result.get("reason", "")]
    if "has_work" in result:
        trials = ", ".join(trial["name"] for trial in result.get("trials", [])) or "none: data only"
        lines += [f"Training runs: {trials}"] if result["has_work"] else ["**Nothing ran.**"]
    lines += [result[name] for name in ("gate", "table") if name in result]
    lines += [_failed_table(result["failed"])] if "failed" in result else []
    lines += [f"Report: `{result['report']}` in the store"] if "report" in result else []
    return "\n\n".join(filter(None, lines)) + "\n"


def _failed_table(failed: Sequence[Mapping[str, Any]]) -> str:
    """A row for each trial without scores, and why."""
    rows = [
        f"| {one['trial']} | {one['stage']} | {one['exit_code']} | {' '.join(one['error'].replace('|', '/').split())} |"
        for one in failed
    ]
    return "\n".join(["| failed trial | in | exit code | why |", "| --- | --- | --- | --- |", *rows])


def numbers(result: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a result under flat names, as Kubeflow's run comparison wants them."""
    flat: dict[str, float] = {}
    for key, value in result.items():
        name = f"{prefix}{key}".replace(" ", "_")
        if isinstance(value, Mapping) and key not in ("settings", "trials", "provenance"):
            flat |= numbers(value, f"{name}_")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            flat[name] = float(value)
    return flat
