"""What each task took in, the section about it out; and how hours and dollars read."""

from __future__ import annotations

from collections.abc import Sequence

from hqclip.report import StageCost
from hqclip.report.costs import dollars
from hqclip.report.document import section, time_in_words
from hqclip.report.markup import Html, duration, tag, wide_table

UNKNOWN = "not known"
Range = tuple[float, float]


def what_it_cost(rows: Sequence[StageCost], elapsed: float | None) -> Html:
    """A row for each task, and one for all; beside them how long it took by the clock."""
    caption = (
        f"{time_in_words(sum(row.seconds for row in rows), elapsed)} GPU time is that of all GPUs together; dollars "
        "are GPU time by the price table of the cycle. Of annotation and training that of all tries is counted, of "
        "other tasks that of the one that went well. What waiting machines cost is not in it."
    )
    head = tag("tr", *(tag("th", name, scope="col") for name in ("task", "time", "GPU time", "cost")))
    gpu_seconds, usd = total(rows)
    whole = StageCost(task="all", seconds=sum(row.seconds for row in rows), gpu_seconds=gpu_seconds, usd=usd)
    body, foot = tag("tbody", *map(_row, rows)), tag("tbody", _row(whole), class_="average")
    return section("What it cost", caption, wide_table("Cost by task", tag("thead", head), body, foot, kind=" spent"))


def total(rows: Sequence[StageCost]) -> tuple[float | None, Range | None]:
    """GPU-seconds and dollars of all, as far as they are known; None where nothing is."""
    seconds = [row.gpu_seconds for row in rows if row.gpu_seconds is not None]
    usd = [row.usd for row in rows if row.usd is not None]
    known = sum(seconds) if seconds else None
    return known, (sum(low for low, _ in usd), sum(high for _, high in usd)) if usd else None


def gpu_time(seconds: float | None) -> str:
    """`2 h 14 min`; `no GPU` where none was used."""
    return UNKNOWN if seconds is None else duration(seconds) if seconds else "no GPU"


def dollar_range(usd: Range | None) -> str:
    """`$1.20 to $2.60`, or one figure where both read the same; a dash without any."""
    if usd is None:
        return "–"
    low, high = map(dollars, usd)
    return low if low == high else f"{low} to {high}"


def _row(row: StageCost) -> Html:
    gpus = [gpu_time(row.gpu_seconds), *([tag("small", row.device)] if row.device else [])]
    cells = ([duration(row.seconds)], gpus, [dollar_range(row.usd)])
    return tag("tr", tag("th", row.task, scope="row"), *(tag("td", *cell) for cell in cells))
