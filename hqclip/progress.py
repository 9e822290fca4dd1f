"""How far a stage is: a bar for a person at a terminal, a line now and then in a log. Always on stderr."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

from hqclip import log

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

LOG_EVERY_S = 10.0


class Progress:
    """Counts from `done` up to `total` things of a kind while entered."""

    def __init__(self, stage: str, total: int, unit: str, *, done: int = 0) -> None:
        self._stage, self._total, self._unit = stage, total, unit
        self._done = self._before = done
        self._start = self._logged = monotonic()
        self._bar = self._new_bar() if sys.stderr.isatty() and log.is_shown() else None

    def _new_bar(self) -> Bar:
        from rich.console import Console
        from rich.progress import Progress as Bar

        bar = Bar(console=Console(stderr=True), transient=True)
        self._task = bar.add_task(self._stage, total=self._total, completed=self._done)
        return bar

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._say(at_the_end=True)

    def advance(self, number: int = 1) -> None:
        """`number` more are done."""
        self._done += number
        if self._bar is not None:
            self._bar.advance(self._task, number)
        elif monotonic() - self._logged > LOG_EVERY_S:
            self._say()

    def _say(self, at_the_end: bool = False) -> None:
        self._logged = monotonic()
        rate = (self._done - self._before) / max(self._logged - self._start, 1e-9)
        left = max(self._total - self._done, 0)
        time_left = f", {_duration(left / rate)} left" if left and rate and not at_the_end else ""
        log.info(self._stage, f"{self._done} of {self._total} {self._unit}, {rate:.0f}/s{time_left}")


def _duration(seconds: float) -> str:
    """As people say it: 40 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"
