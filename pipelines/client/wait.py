"""A run in, its end out: looked at now and then, with every change of its tasks said, and at last what came of it."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hqclip.errors import AccessError, ConfigError, TerminatedError, UnavailableError
from hqclip.interruption import Interruption, interruptible
from pipelines.client.connect import Kubeflow
from pipelines.client.explain import say_others
from pipelines.client.find import ENDED
from pipelines.client.outcome import outcome, page
from pipelines.client.output import say
from pipelines.client.reasons import explain
from pipelines.client.tasks import Told, tell

FIRST_S = 1.0  # until the second look
TIMES_AS_PATIENT = 10  # a wait stands longer outages than a single request


def check_waiting(poll_s: float) -> None:
    """Before anything is started. Raises `ConfigError`."""
    if not poll_s > 0:
        raise ConfigError(f"--poll-s is {poll_s:g}; give more than 0")


def wait(kubeflow: Kubeflow, run_id: str, *, poll_s: float, patience_s: float) -> Told:
    """All of a run once it has ended. Raises `UnavailableError` after so long without an answer."""
    seen: dict[str, str] = {}
    unseen: set[str] = set()
    pause, begun, heard = min(FIRST_S, poll_s), time.monotonic(), time.monotonic()
    while True:
        try:
            told = tell(kubeflow, kubeflow.client.get_run(run_id), records=not unseen)
        except AccessError as error:  # a token that has expired
            raise AccessError(f"{error}. {_goes_on(kubeflow, run_id)}") from error
        except UnavailableError as error:
            if time.monotonic() - heard > TIMES_AS_PATIENT * patience_s:
                raise UnavailableError(f"{error}. {_goes_on(kubeflow, run_id)}") from error
            say(f"{_clock(begun)}  Kubeflow does not answer; trying again")
            time.sleep(pause)
            continue
        heard = time.monotonic()
        for source in set(told.missing) - unseen:
            say(f"not to be seen: {source}")
        unseen |= set(told.missing)
        changes = list(_changes(told, seen))
        for change in changes:
            say(f"{_clock(begun)}  {change}")
        if told.state in ENDED:
            return told
        pause = min(FIRST_S, poll_s) if changes else min(poll_s, pause * 1.5)
        time.sleep(pause)


def tell_end(kubeflow: Kubeflow, told: Told) -> int:
    """The exit code of a run that has ended: 0 if it succeeded, 1 if not. What came of it, or broke it, is said."""
    run_id = told.run.run_id
    reasons = explain(kubeflow, told)
    say(f"run {run_id}: {told.state}: {outcome(kubeflow, told, reasons)}")
    for reason in reasons[:1]:
        say(f"  {reason.advice}\n  next: {reason.next}")
    say_others(reasons)
    if where := page(told):
        say(f"page: {where}")
    if link := kubeflow.link("runs", run_id):
        say(f"in Kubeflow: {link}")
    return 0 if told.state in ("SUCCEEDED", "SKIPPED") else 1


def wait_and_tell(kubeflow: Kubeflow, run_id: str, *, poll_s: float, patience_s: float) -> tuple[Any | None, int]:
    """The run and its exit code; none, and 130 or 143, when the wait is interrupted: the run goes on."""
    try:
        with interruptible(), _sigterm_raises():
            told = wait(kubeflow, run_id, poll_s=poll_s, patience_s=patience_s)
            return told.run, tell_end(kubeflow, told)
    except (KeyboardInterrupt, TerminatedError) as error:
        say(
            f"no longer waiting; run {run_id} goes on: {kubeflow.command('status', run_id)}\n"
            f"cancel it with: {kubeflow.command('cancel', run_id)}"
        )
        return None, TerminatedError.exit_code if isinstance(error, TerminatedError) else 130


def _goes_on(kubeflow: Kubeflow, run_id: str) -> str:
    return f"Run {run_id} goes on by itself: see `{kubeflow.command('status', run_id)}` later"


def _changes(told: Told, seen: dict[str, str]) -> Iterator[str]:
    for task in told.tasks:
        state = f"{task.state}{'' if len(task.attempts) < 2 else f', attempt {len(task.attempts)}'}"
        if seen.get(task.name) != state:
            seen[task.name] = state
            took = f" after {task.seconds:.0f} s" if task.seconds is not None and task.state in ENDED else ""
            yield f"{task.name} {state}{took}"
    if seen.get("") != told.state:
        seen[""] = told.state
        yield f"run {told.state}"


def _clock(begun: float) -> str:
    seconds = int(time.monotonic() - begun)
    return f"{seconds // 60:3d}:{seconds % 60:02d}"


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise Interruption(TerminatedError("SIGTERM"))

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
