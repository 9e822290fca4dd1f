"""How long a job may run, and how long without a checkpoint: the same on this machine and on a cluster."""

from __future__ import annotations

from collections.abc import Callable

from hqclip.errors import HQClipError, TimeLimitError, UnavailableError
from hqclip.launch.attempts import progress_mark
from hqclip.launch.job import Job
from hqclip.launch.spec import LaunchSpec
from hqclip.store import Store

LOOK_S = 5.0  # between two looks at the progress, each of which lists checkpoints


class Limits:
    """Those of one job, counted by whoever follows it from the first time that it runs."""

    def __init__(self, spec: LaunchSpec, job: Job, store: Store, clock: Callable[[], float]) -> None:
        self._spec, self._job, self._store, self._clock = spec, job, store, clock
        self._begun: float | None = None
        self._mark, self._moved, self._looked = "", clock(), -LOOK_S

    def exceeded(self, *, waits: bool = False) -> HQClipError | None:
        """The limit that has been passed, if one has; a job that waits for machines makes no progress meanwhile."""
        spec, job, now = self._spec, self._job, self._clock()
        if self._begun is None and not waits:
            self._begun = now
        run_s = now - self._begun if self._begun is not None else 0.0
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
