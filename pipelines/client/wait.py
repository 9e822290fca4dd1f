"""A run in, its end out: looked at now and then, with every change of a task said."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hqclip.errors import AccessError, ConfigError, TerminatedError, UnavailableError
from pipelines.client.connect import Kubeflow
from pipelines.client.explain import say_why
from pipelines.client.output import say
from pipelines.client.tasks import ENDED, state_of, tasks_of

FIRST_S = 1.0  # until the second look
TIMES_AS_PATIENT = 10  # a wait stands longer outages than a single request


def check_waiting(poll_s: float) -> None:
    """Before anything is started. Raises `ConfigError`."""
    if not poll_s > 0:
        raise ConfigError(f"--poll-s is {poll_s:g}; give more than 0")


def wait(kubeflow: Kubeflow, run_id: str, *, poll_s: float, patience_s: float) -> Any:
    """The run once it has ended. Raises `UnavailableError` after so long without an answer."""
    seen: dict[str, str] = {}
    pause, begun, heard = min(FIRST_S, poll_s), time.monotonic(), time.monotonic()
    while True:
        try:
            run = kubeflow.client.get_run(run_id)
        except AccessError as error:  # a token that has expired
            raise AccessError(f"{error}. {_goes_on(run_id)}") from error
        except UnavailableError as error:
            if time.monotonic() - heard > TIMES_AS_PATIENT * patience_s:
                raise UnavailableError(f"{error}. {_goes_on(run_id)}") from error
            say(f"{_clock(begun)}  Kubeflow does not answer; trying again")
            time.sleep(pause)
            continue
        heard = time.monotonic()
        changes = list(_changes(run, seen))
        for change in changes:
            say(f"{_clock(begun)}  {change}")
        if state_of(run) in ENDED:
            return run
        pause = min(FIRST_S, poll_s) if changes else min(poll_s, pause * 1.5)
        time.sleep(pause)


def outcome(kubeflow: Kubeflow, run: Any) -> int:
    """The exit code of a run that has ended: 0 if it succeeded, 1 if not; what broke it is said."""
    state = state_of(run)
    say(f"run {run.run_id}: {state}")
    if state in ("SUCCEEDED", "SKIPPED"):
        return 0
    if state == "FAILED":
        say_why(kubeflow, run)
    return 1


def wait_and_tell(kubeflow: Kubeflow, run_id: str, *, poll_s: float, patience_s: float) -> tuple[Any | None, int]:
    """The run and its exit code; none, and 130 or 143, when the wait is interrupted: the run goes on."""
    try:
        with _sigterm_raises():
            run = wait(kubeflow, run_id, poll_s=poll_s, patience_s=patience_s)
            return run, outcome(kubeflow, run)
    except (KeyboardInterrupt, TerminatedError) as error:
        say(
            f"no longer waiting; run {run_id} goes on: {kubeflow.link('runs', run_id)}\n"
            f"cancel it with: python -m pipelines cancel {run_id}"
        )
        return None, TerminatedError.exit_code if isinstance(error, TerminatedError) else 130


def _goes_on(run_id: str) -> str:
    return f"Run {run_id} goes on by itself: see `python -m pipelines status {run_id}` later"


def _changes(run: Any, seen: dict[str, str]) -> Iterator[str]:
    for task in tasks_of(run):
        if seen.get(task.id) != task.state:
            seen[task.id] = task.state
            took = f" after {task.seconds:.0f} s" if task.seconds is not None and task.state in ENDED else ""
            yield f"{task.name} {task.state}{took}"
    state = state_of(run)
    if seen.get("") != state:
        seen[""] = state
        yield f"run {state}"


def _clock(begun: float) -> str:
    seconds = int(time.monotonic() - begun)
    return f"{seconds // 60:3d}:{seconds % 60:02d}"


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TerminatedError("SIGTERM")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
