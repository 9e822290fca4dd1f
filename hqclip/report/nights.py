"""A `History` in, the list of its nights out, the newest first: cycles, and runs that came to none."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from hqclip.report.costs import Figure
from hqclip.report.counts import ranked, reason_name
from hqclip.report.document import navigation
from hqclip.report.history import DATA_ONLY, OPEN, UNREADABLE, History, PastCycle, PastRun, seconds_of
from hqclip.report.history_charts import faults, samples, worked
from hqclip.report.markup import Html, cut, duration, join, percent, points, share_of, tag, whole
from hqclip.report.spending import dollar_range, gpu_time, total

SHOWN = 10  # nights that lie open
MOST_FAULTS, MOST_LETTERS, MOST_TRIES = 3, 400, 6
VERDICTS = {
    "promoted": ("✓ Promoted", "yes"),
    "refused": ("✕ Not promoted", "no"),
    "rejected": ("✕ Rejected", "no"),
    "waits for approval": ("… Waits for approval", "open"),
    DATA_ONLY: ("Data only", "plain"),
    OPEN: ("… Not done", "open"),
    UNREADABLE: ("✕ Not readable", "no"),
}
OUTCOMES = {
    "nothing_to_do": ("Nothing new", "plain"),
    "locked": ("Kept out", "plain"),
    "failed": ("✕ Failed", "no"),
    "budget": ("✕ Budget", "no"),
    "cancelled": ("✕ Cancelled", "no"),
    "succeeded": ("Done", "plain"),
}
SILENT = ("No word", "open")


@dataclass(frozen=True)
class Night:
    """A cycle, or runs one after another that ended alike and came to none."""

    at: float
    cycle: PastCycle | None = None
    runs: tuple[PastRun, ...] = ()


def night_list(history: History) -> Html:
    """The newest lie open, the others are folded away by month."""
    nights = nights_of(history)
    parts = [_list(history, nights[:SHOWN])]
    for month, older in itertools.groupby(nights[SHOWN:], key=lambda night: _date(night.at, "%B %Y")):
        folded = list(older)
        summary = tag("summary", month or "Before that", tag("small", f" {_in_words(folded)}"))
        parts.append(tag("details", summary, _list(history, folded), class_="older"))
    return join(parts)


def nights_of(history: History) -> list[Night]:
    """The newest first. A cycle of which nobody says when it was follows the one before."""
    nights, at = [], 0.0
    known = {past.cycle for past in history.cycles}
    for past in history.cycles:
        began = [run.began for run in history.runs_of(past.cycle)]
        at = max(at, min(began) if began else seconds_of(past.began) or at)
        nights.append(Night(at, past))
    idle = [run for run in history.runs if run.cycle not in known]
    for _, alike in itertools.groupby(_between(idle, nights), key=lambda pair: pair[0]):
        runs = tuple(run for _, run in alike)
        nights.append(Night(runs[0].began, None, runs))
    return sorted(nights, key=lambda night: night.at, reverse=True)


def _between(runs: Iterable[PastRun], cycles: Sequence[Night]) -> list[tuple[tuple[int, str], PastRun]]:
    """Runs with what makes them alike: between which cycles they lie, and how they ended."""
    starts = [night.at for night in cycles]
    return [((sum(start <= run.began for start in starts), run.outcome), run) for run in runs]


def _list(history: History, nights: Iterable[Night]) -> Html:
    rows = (_cycle(history, night.cycle, night.at) if night.cycle else _idle(history, night) for night in nights)
    return tag("ol", *rows, class_="nights")


def _in_words(nights: Sequence[Night]) -> str:
    cycles = [night.cycle for night in nights if night.cycle]
    promoted = sum(past.verdict == "promoted" for past in cycles)
    idle = sum(len(night.runs) for night in nights)
    said = [f"{whole(len(cycles))} cycle{'s' if len(cycles) != 1 else ''}", f"{whole(promoted)} promoted"]
    return ", ".join(said + ([f"{whole(idle)} without a cycle"] if idle else []))


def _cycle(history: History, past: PastCycle, at: float) -> Html:
    runs = history.runs_of(past.cycle)
    title = [f"Cycle {past.cycle}", tag("small", _date(at, "%Y-%m-%d %H:%M UTC"))]
    badge, kind = VERDICTS.get(past.verdict, (past.verdict, "plain"))
    numbers = (tag("div", tag("dt", name), tag("dd", *value)) for name, value in _numbers(history, past))
    approval = [tag("p", "Decision: ", past.approval, class_="quiet")] if past.approval else []
    return tag(
        "li",
        tag("h3", *title),
        tag(
            "div",
            tag("p", tag("strong", badge, class_=f"badge {kind}"), cut(past.reason, MOST_LETTERS)),
            *approval,
            tag("dl", *numbers, class_="numbers"),
            _tries([*past.failed, *_of_runs(runs), *past.problems]),
            navigation(history.links.get(past.cycle, ())),
        ),
        id=f"cycle-{past.cycle}",
    )


def _numbers(history: History, past: PastCycle) -> Iterable[tuple[str, list[str]]]:
    if past.average is not None and math.isfinite(past.average):
        yield "average", [percent(past.average), *_lead(past)]
    if past.usable is not None and past.rows is not None:
        yield "usable samples", [whole(past.usable), tag("small", f"of {whole(past.rows)}")]
        count, found = sum(faults(past).values()), ranked(faults(past))[:MOST_FAULTS]
        kinds = [tag("small", ", ".join(f"{reason_name(name)} {whole(n)}" for name, n in found))] if found else []
        yield "faults", [f"{whole(count)} · {share_of(count, samples(past))}" if count else "none", *kinds]
    if past.stages:
        gpu_seconds, usd = total(past.stages)
        yield "GPU time", [gpu_time(gpu_seconds), *([tag("small", dollar_range(usd))] if usd else [])]
    if (sum_s := worked(past)) is not None:
        elapsed = history.elapsed(past)
        clock = [tag("small", f"{duration(elapsed)} by the clock")] if elapsed is not None else []
        yield "all stages", [duration(sum_s), *clock]
    if "words" in past.texts:
        drift = max(past.drift.items(), key=lambda item: item[1], default=None)
        moved = [tag("small", f"drift {drift[1]:.2f}, {reason_name(drift[0])}")] if drift else []
        yield "words a description", [f"{past.texts['words']:.0f}", *moved]


def _lead(past: PastCycle) -> list[Html]:
    if past.lead is None:
        return []
    value, low, high = past.lead
    return [tag("small", f"{points(value)}; {points(low)} to {points(high)}")]


def _of_runs(runs: Sequence[PastRun]) -> list[str]:
    """What did not go at once: runs that ended badly before, and attempts that were repeated."""
    said = [f"run {run.run}: {run.reason}" for run in runs if run.outcome != "succeeded" and run.reason]
    said += [retry for run in runs for retry in run.retries]
    lost = sum(run.lost for run in runs)
    return [*said, *([f"{duration(lost)} of tasks that ended badly"] if lost >= 1 else [])]


def _tries(said: Sequence[str]) -> Html:
    more = [f"and {len(said) - MOST_TRIES} more"] if len(said) > MOST_TRIES else []
    lines = [tag("li", cut(line, MOST_LETTERS)) for line in [*said[:MOST_TRIES], *more]]
    return tag("ul", *lines, class_="tries") if lines else Html("")


def _idle(history: History, night: Night) -> Html:
    """Runs without a cycle, in a line; the last of them says why."""
    last = night.runs[-1]
    badge, kind = OUTCOMES.get(last.outcome, SILENT)
    count = f"{len(night.runs)} runs" if len(night.runs) > 1 else "1 run"
    until = f" to {_date(last.began, '%Y-%m-%d %H:%M UTC')}" if len(night.runs) > 1 else ""
    when = tag("small", f"{_date(night.at, '%Y-%m-%d %H:%M UTC')}{until}")
    said = tag("p", tag("strong", badge, class_=f"badge {kind}"), cut(last.reason, MOST_LETTERS))
    more = _tries([*last.retries, *(problem for run in night.runs for problem in run.problems)])
    return tag("li", tag("h3", count, when), tag("div", said, more, _links(history, night)), class_="skipped")


def _links(history: History, night: Night) -> Html:
    return navigation(history.links.get(night.runs[-1].run, ()))


def idle_figures(history: History) -> list[Figure]:
    """How many runs came to no cycle, by why."""
    known = {past.cycle for past in history.cycles}
    counts = Counter(OUTCOMES.get(run.outcome, SILENT)[0] for run in history.runs if run.cycle not in known)
    return [(f"nights: {name.strip('✕ ').lower()}", whole(number)) for name, number in ranked(counts)]


def _date(at: float, pattern: str) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime(pattern) if at > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""
