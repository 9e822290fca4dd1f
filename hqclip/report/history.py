"""What the page about all cycles of a store is made of; `history_page.render_history` makes one HTML file of it.

As on every page texts are data, shares and scores are fractions from 0 to 1, and what is None or empty is not known.
Every value is plain, so `dataclasses.asdict` of it is the JSON document beside the page. Times are ISO 8601 in UTC for
cycles, and seconds since 1970 by the clock of the tasks for runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from hqclip.report import Link, StageCost

Triple = tuple[float, float, float]
OPEN, DATA_ONLY, UNREADABLE = "open", "data only", "unreadable"  # verdicts beside those that a record has


@dataclass(frozen=True, kw_only=True)
class PastCycle:
    """One cycle. `average` is of its candidate, `champion` of the model in force before (of cycle `parent`, 0 for none)
    on the same suite, and `lead` their difference with its 95 % interval; `scores` has the main metric of each
    benchmark with its own interval.

    `statuses` and `flags` count samples, `refused` those that `download` left out. `texts` are figures of the data
    set's statistics, `drift` its distances to the parent. `trained` are keys of runs, `failed` are trials without
    scores, `problems` records that could not be read. `logged` is what the work log of `annotator` had come to.
    """

    cycle: int
    began: str = ""
    ended: str = ""
    verdict: str = OPEN
    reason: str = ""
    approval: str = ""
    candidate: str = ""
    parent: int = 0
    suite: str = ""
    average: float | None = None
    champion: float | None = None
    lead: Triple | None = None
    scores: Mapping[str, Triple] = field(default_factory=dict)
    dataset: str = ""
    rows: int | None = None
    usable: int | None = None
    statuses: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    flags: Mapping[str, int] = field(default_factory=dict)
    texts: Mapping[str, float] = field(default_factory=dict)
    drift: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[StageCost, ...] = ()
    trained: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    annotator: str = ""
    logged: float = 0.0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PastRun:
    """One run of a pipeline, that worked on `cycle`, or on none (0). `outcome` is that of its exit task, if it told.

    `worked` are the seconds of all attempts at its tasks, `lost` those of attempts that ended badly; `retries` says
    which were tried again and why.
    """

    run: str
    began: float
    ended: float | None = None
    cycle: int = 0
    outcome: str = ""
    reason: str = ""
    worked: float = 0.0
    lost: float = 0.0
    retries: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PastSweep:
    """One sweep that was compared."""

    digest: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class History:
    """All that the page tells, cycles and runs by their age, the oldest first. `left_out` counts older ones.

    `links` are those of each cycle, by its number, of each run, by its id, and of each sweep, by its digest; what has
    none has no page. `curves` is the command that shows the training curves, `champion` the cycle whose model is in
    force (0 for none).
    """

    store: str
    cycles: tuple[PastCycle, ...] = ()
    runs: tuple[PastRun, ...] = ()
    sweeps: tuple[PastSweep, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[int | str, tuple[Link, ...]] = field(default_factory=dict)
    curves: str = ""
    champion: int = 0
    problems: tuple[str, ...] = ()

    def runs_of(self, cycle: int) -> list[PastRun]:
        """Those that worked on a cycle, the first first."""
        return self._by_cycle.get(cycle, [])

    @cached_property
    def _by_cycle(self) -> dict[int, list[PastRun]]:
        found: dict[int, list[PastRun]] = {}
        for run in self.runs:
            found.setdefault(run.cycle, []).append(run)
        return found

    def elapsed(self, past: PastCycle) -> float | None:
        """Seconds from the beginning of a cycle to its end, waiting included; None where nobody says."""
        runs = self.runs_of(past.cycle)
        ends = [run.ended for run in runs if run.ended is not None]
        if ends:
            return max(ends) - min(run.began for run in runs)
        began, ended = seconds_of(past.began), seconds_of(past.ended)
        return ended - began if began is not None and ended is not None else None


def seconds_of(time: str) -> float | None:
    """Seconds since 1970 of an ISO 8601 time; None for anything else."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return None
