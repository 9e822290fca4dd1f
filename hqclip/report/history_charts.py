"""A `History` in, its charts out: scores against the champion, data, texts, time and money, cycle by cycle."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from hqclip.records import Status
from hqclip.report.charts import Points
from hqclip.report.costs import decimal, dollars
from hqclip.report.counts import reason_name
from hqclip.report.histograms import LARGE, STABLE
from hqclip.report.history import History, PastCycle, Triple
from hqclip.report.markup import number, rounded_percent, whole
from hqclip.report.spending import total
from hqclip.report.trends import Band, Trend

CANDIDATE, CHAMPION = "candidate", "champion"
MOST_BENCHMARKS, MOST_FAULTS = 12, 4
HOUR_S = 3600.0
Value = Callable[[PastCycle], float | None]


def average(cycles: Sequence[PastCycle]) -> Trend:
    """The average of every candidate and of the model in force; dots are promotions."""
    return _scores(
        "Average over all benchmarks",
        cycles,
        lambda past: past.average,
        lambda past: past.champion,
        _interval,
        caption="The band is the 95\u202f% interval of the lead over the champion before; dots were put in force.",
    )


def by_benchmark(cycles: Sequence[PastCycle]) -> Iterator[Trend]:
    """The main metric of each benchmark that the newest judged cycle has."""
    known = {past.cycle: past for past in cycles}
    newest: Mapping[str, Triple] = next((past.scores for past in reversed(cycles) if past.scores), {})
    for name in list(newest)[:MOST_BENCHMARKS]:
        yield _scores(
            name,
            cycles,
            lambda past, name=name: past.scores[name][0] if name in past.scores else None,  # type: ignore[misc]
            lambda past, name=name: _of_parent(known, past, name),  # type: ignore[misc]
            lambda past, name=name: past.scores[name][1:] if name in past.scores else None,  # type: ignore[misc]
        )


def data(cycles: Sequence[PastCycle]) -> Iterator[Trend]:
    """How much there is, and what could not be used."""
    lines = {"all": _line(cycles, lambda past: past.rows), "usable": _line(cycles, lambda past: past.usable)}
    yield Trend(name="Samples", lines=lines, say=_short, caption="Of the data set of each cycle.")
    counts = Counter[str]()
    for past in cycles:
        counts.update(faults(past))
    top = [name for name, _ in counts.most_common(MOST_FAULTS)]
    lines = {reason_name(name): _line(cycles, _share_of(name)) for name in top}
    if lines:
        caption = f"Shares of all samples; the {len(top)} most frequent kinds of {len(counts)}."
        yield Trend(name="Faults", lines=lines, say=rounded_percent, caption=caption)


def texts(cycles: Sequence[PastCycle]) -> Iterator[Trend]:
    """Whether what the LVLM writes grows longer, poorer or more alike."""
    described = (
        ("Length of descriptions", {"words": "words", "CLIP tokens": "clip_tokens"}, number, "The middle description."),
        ("Variety of tags", {"entropy": "tag_entropy"}, number, "Entropy in bits: less means fewer different tags."),
        (
            "Sameness of descriptions",
            {"met before": "duplicate_descriptions", "same opening": "top_opening"},
            rounded_percent,
            "Shares of descriptions: those that are copies, and those with the most frequent first words.",
        ),
    )
    for title, names, say, caption in described:
        lines = {shown: _line(cycles, lambda past, name=name: past.texts.get(name)) for shown, name in names.items()}  # type: ignore[misc]
        yield Trend(name=title, lines=lines, say=say, caption=caption)
    drifts = {"most": "", "tags": "tags", "length": "words_per_description"}
    yield Trend(
        name="Drift from the parent",
        lines={shown: _line(cycles, _drift(name)) for shown, name in drifts.items()},
        caption="Population stability index against the data of the champion, and the largest of all that are taken.",
        limits={STABLE: "a change", LARGE: "a large change"},
    )


def cost(history: History) -> Iterator[Trend]:
    """What cycles took: GPUs, dollars, and time by the clock beside the sum of their stages."""
    cycles = history.cycles
    stages = dict.fromkeys(row.task.partition("-")[0] for past in cycles for row in past.stages if row.gpu_seconds)
    lines = {"all": _line(cycles, lambda past: _hours(total(past.stages)[0]))} if stages else {}
    if len(stages) > 1:
        lines |= {stage: _line(cycles, _gpu_hours(stage)) for stage in stages}
    if lines:
        yield Trend(name="GPU-hours", lines=lines, say=decimal)
    usd = {past.cycle: found for past in cycles if (found := total(past.stages)[1])}
    if usd:
        band = [[(cycle, low, high) for cycle, (low, high) in usd.items()]]
        middle = [(float(cycle), (low + high) / 2) for cycle, (low, high) in usd.items()]
        yield Trend(
            name="Cost",
            lines={"dollars": middle},
            bands={"dollars": band},
            say=lambda value: dollars(value) if value else "$0",
            caption="By the price table of each cycle, from low to high.",
        )
    lines = {
        "by the clock": _line(cycles, lambda past: _hours(history.elapsed(past))),
        "all stages": _line(cycles, lambda past: _hours(worked(past))),
    }
    caption = "What lies above the sum of the stages was waiting: for machines, a queue, another night."
    yield Trend(name="Hours from plan to verdict", lines=lines, say=decimal, caption=caption)


def faults(past: PastCycle) -> dict[str, int]:
    """Samples by what was wrong with them, at download or in annotation."""
    said = {name: count for name, count in past.statuses.items() if name != Status.OK and count}
    return {**said, **{f"{name} (at download)": count for name, count in past.refused.items() if count}}


def samples(past: PastCycle) -> int:
    """All that were met, those that were left out at download too."""
    return (past.rows or 0) + sum(past.refused.values())


def worked(past: PastCycle) -> float | None:
    """Seconds of all stages together; None where none told."""
    return sum(row.seconds for row in past.stages) if past.stages else None


def has_values(trend: Trend) -> bool:
    """Whether any line has a value."""
    return any(math.isfinite(y) for points in trend.lines.values() for _, y in points)


def _scores(
    name: str,
    cycles: Sequence[PastCycle],
    of: Value,
    before: Value,
    interval: Callable[[PastCycle], tuple[float, ...] | None],
    caption: str = "",
) -> Trend:
    """A line of candidates with their intervals, and one of the model in force, which steps where it is replaced."""
    judged = [past for past in cycles if of(past) is not None]
    candidates: Points = []
    champions: Points = []
    bands: list[Band] = []
    stretches = _stretches(judged)
    for suite in stretches:
        candidates += [(past.cycle, _or_gap(of(past))) for past in suite] + [(suite[-1].cycle, math.nan)]
        champions += [point for past in suite for point in _in_force(past, of, before)] + [(suite[-1].cycle, math.nan)]
        bands.append([(past.cycle, *ends) for past in suite if (ends := interval(past)) and len(ends) == 2])
    promoted = [(float(past.cycle), _or_gap(of(past))) for past in judged if past.verdict == "promoted"]
    return Trend(
        name=name,
        lines={CANDIDATE: candidates, CHAMPION: champions},
        bands={CANDIDATE: [band for band in bands if band]},
        marks={CHAMPION: promoted},
        breaks=[suite[0].cycle - 0.5 for suite in stretches[1:]],
        caption=caption,
        say=rounded_percent,
        from_zero=False,
    )


def _stretches(cycles: Iterable[PastCycle]) -> list[list[PastCycle]]:
    """Cycles that were judged by the same suite one after another: scores of others cannot be compared."""
    stretches: list[list[PastCycle]] = []
    for past in cycles:
        if stretches and stretches[-1][-1].suite == past.suite:
            stretches[-1].append(past)
        else:
            stretches.append([past])
    return stretches


def _in_force(past: PastCycle, of: Value, before: Value) -> Points:
    """The model that was in force when the cycle was judged, and the one from then on."""
    replaced = past.verdict == "promoted"
    points = [(float(past.cycle), _or_gap(before(past)))] if before(past) is not None or not replaced else []
    return [*points, *([(float(past.cycle), _or_gap(of(past)))] if replaced else [])]


def _of_parent(known: Mapping[int, PastCycle], past: PastCycle, name: str) -> float | None:
    parent = known.get(past.parent)
    return parent.scores[name][0] if parent and parent.suite == past.suite and name in parent.scores else None


def _interval(past: PastCycle) -> tuple[float, float] | None:
    if past.lead is None or past.champion is None:
        return None
    return past.champion + past.lead[1], past.champion + past.lead[2]


def _share_of(name: str) -> Value:
    return lambda past: faults(past).get(name, 0) / samples(past) if samples(past) else None


def _drift(name: str) -> Value:
    return lambda past: past.drift.get(name) if name else max(past.drift.values(), default=None)


def _gpu_hours(stage: str) -> Value:
    return lambda past: _hours(total([row for row in past.stages if row.task.partition("-")[0] == stage])[0])


def _hours(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / HOUR_S


def _line(cycles: Iterable[PastCycle], value: Value) -> Points:
    return [(float(past.cycle), _or_gap(value(past))) for past in cycles]


def _or_gap(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _short(value: float) -> str:
    """`1.2M`, `250k`, `600`."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return whole(round(value))
