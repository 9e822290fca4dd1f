"""How long a job may run, how long without a checkpoint, for how much: the same on this machine and on a cluster."""

from __future__ import annotations

from collections.abc import Callable

from hqclip.errors import HQClipError, TimeLimitError, UnavailableError
from hqclip.launch.attempts import progress_mark, ran_before_s
from hqclip.launch.job import Job
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store

Exceeded = Callable[[], HQClipError | None]
LOOK_S = 5.0  # between two looks at the progress, each of which lists checkpoints


class Limits:
    """Those of one job as a whole: the time that attempts before have run counts, whoever watched them.

    `budget` says why what all jobs together cost must end now, if it must.
    """

    def __init__(
        self, spec: LaunchSpec, job: Job, store: Store, clock: Callable[[], float], budget: Exceeded | None = None
    ) -> None:
        self._spec, self._job, self._store, self._clock = spec, job, store, clock
        self._budget = budget
        self._ran_s: float | None = None  # None until it runs
        self._looked_s = clock()
        self._mark, self._moved, self._looked = "", clock(), -LOOK_S

    def exceeded(self, *, waits: bool = False) -> HQClipError | None:
        """The limit that has been passed, if one has; a job that waits for machines makes no progress meanwhile."""
        spec, job, now = self._spec, self._job, self._clock()
        if self._budget is not None and (fault := self._budget()) is not None:
            return fault
        run_s = self._has_run_s(now, waits)
        if spec.running_timeout_s and run_s >= spec.running_timeout_s:
            return TimeLimitError(f"{job.name} has run for {run_s:.0f} s, which is running_timeout_s")
        if not spec.stall_timeout_s or not job.progress:
            return None
        if now - self._looked >= min(LOOK_S, spec.stall_timeout_s):
            self._looked = now
            mark = progress_mark(self._store, job.progress)
            if mark != self._mark:
                self._mark, self._moved = mark, now
        if waits:
            self._moved = now
        if now - self._moved < spec.stall_timeout_s:
            return None
        return UnavailableError(
            f"{job.name} has written nothing below {job.progress} for {spec.stall_timeout_s:g} s (stall_timeout_s)"
        )

    def _has_run_s(self, now: float, waits: bool) -> float:
        """Seconds without those in which it waited for machines."""
        since_s, self._looked_s = now - self._looked_s, now
        if waits:
            return self._ran_s or 0.0
        if self._ran_s is None:
            self._ran_s = ran_before_s(self._store, self._job.key)
        else:
            self._ran_s += since_s
        return self._ran_s
