"""A task that holds GPUs in, kept within the budget of its cycle or sweep: looked at each minute, stopped, told why."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hqclip import log
from hqclip.cycle.attempt import Attempt
from hqclip.cycle.budget.limit import Budget, by_stage
from hqclip.cycle.budget.spending import gpu_hours, mark_run
from hqclip.errors import BudgetError, HQClipError, TerminatedError
from hqclip.interruption import Interruption
from hqclip.store import Store, open_store
from hqclip.store.lease import Heartbeat

BEAT_S = 60.0  # between two signs of life of a task
LOOK_S = 60.0  # between two counts of what was spent, each of which reads what all tasks and agents said


class Keeper:
    """Says when the budget is used up; asked as often as one likes, it counts every `LOOK_S`."""

    def __init__(self, store: Store, planned: Mapping[str, Any]) -> None:
        self._store, self._notes = store, str(planned["notes"])
        self._budget = Budget(**planned.get("budget", {}))
        self._looked = -LOOK_S
        self.fault: BudgetError | None = None

    def exceeded(self) -> BudgetError | None:
        """Why the work must stop, if it must. A store that does not answer stops nothing."""
        if self.fault or not self._budget.is_set or time.monotonic() - self._looked < LOOK_S:
            return self.fault
        self._looked = time.monotonic()
        try:
            hours = gpu_hours(self._store, self._notes)
        except HQClipError as error:
            log.warning("budget", f"what was spent so far is not known: {error}")
            return None
        if excess := self._budget.excess(hours):
            self.fault = BudgetError(
                f"stopped by the budget of {_name(self._notes)}: {excess} (GPU-hours: {by_stage(hours)}). What was "
                "finished is kept; the same run with a larger budget continues"
            )
        return self.fault


@contextmanager
def kept(planned: Mapping[str, Any], store_uri: str, attempt: Attempt, *, launched: bool) -> Iterator[Keeper]:
    """While entered, the task gives signs of life, and its spending counts; raises `BudgetError` when it is too much.

    One that is `launched` is stopped by who follows its job and asks the keeper; another gets SIGTERM, as if from
    outside, so that it writes its checkpoint, or is interrupted where it has nothing to write (`interruptible`).
    """
    store = open_store(store_uri)
    keeper = Keeper(store, planned)
    if attempt.run and planned["notes"].endswith("stages/"):
        mark_run(store, planned["notes"], attempt.run, planned.get("budget", {}))
    if fault := keeper.exceeded():
        raise fault

    work = _Interruptible(keeper)

    def beat() -> None:
        attempt.lives()
        if not launched and not keeper.fault and keeper.exceeded():
            work.interrupt(attempt)

    with work, Heartbeat(beat, BEAT_S):
        try:
            yield keeper
        except TerminatedError as error:
            if keeper.fault:
                raise keeper.fault from error
            raise


class _Interruptible:
    """Work that SIGUSR1 ends while this is entered; outside the main thread Python allows no handler, none is sent."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._is_under_way, self._sending = False, threading.Lock()

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._at_end = signal.getsignal(signal.SIGTERM)
            self._before = signal.signal(signal.SIGUSR1, self._stop)
            self._is_under_way = True

    def __exit__(self, *_: object) -> None:
        if not self._is_under_way:
            return
        try:
            with self._sending:
                self._is_under_way = False
        finally:  # the signal may come just then
            signal.signal(signal.SIGUSR1, self._before)

    def interrupt(self, attempt: Attempt) -> None:
        """From another thread; a look that took until the work was over ends nothing any more."""
        with self._sending:
            if self._is_under_way:
                attempt.stops()
                os.kill(os.getpid(), signal.SIGUSR1)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        fault = self._keeper.fault if self._is_under_way else None
        if fault and signal.getsignal(signal.SIGTERM) is not self._at_end:  # the stage asks for it between two steps
            os.kill(os.getpid(), signal.SIGTERM)
        elif fault:
            raise Interruption(fault)


def _name(notes: str) -> str:
    """`cycle 3`, `sweep 0123456789abcdef`."""
    kind, _, rest = notes.partition("/")
    name = rest.partition(".")[0]
    return f"cycle {int(name)}" if kind == "cycles" else f"sweep {name}"
