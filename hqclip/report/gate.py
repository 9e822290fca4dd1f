"""The bars that a candidate had to reach in, the section that says which it did out."""

from __future__ import annotations

from collections.abc import Iterable

from hqclip.records import Bar
from hqclip.report.document import section
from hqclip.report.markup import Html, percent, points, rounded_percent, tag, wide_table

ASKED = {"margin": "lead of", "floor": "at least", "max_drop": "drop up to"}
COLUMNS = ("metric", "champion", "candidate", "difference", "asked", "verdict")


def what_decided(bars: Iterable[Bar]) -> Html:
    """A row for each bar."""
    caption = (
        "A candidate is put in force only if it reaches every line. A benchmark stands for its main metric; "
        "differences are percentage points, with their 95\u202f% interval."
    )
    head = tag("tr", *(tag("th", name, scope="col") for name in COLUMNS))
    table = wide_table("What decided", tag("thead", head), tag("tbody", *(_row(bar) for bar in bars)), kind=" gate")
    return section("What decided", caption, table)


def _row(bar: Bar) -> Html:
    if bar.difference is None:
        difference: list[str] = [tag("span", "no champion", class_="quiet")]
    else:
        value, low, high = bar.difference
        difference = [points(value), tag("small", f"{points(low)} to {points(high)}")]
    return tag(
        "tr",
        tag("th", bar.metric, scope="row"),
        tag("td", "–" if bar.champion is None else percent(bar.champion)),
        tag("td", percent(bar.candidate)),
        tag("td", *difference),
        tag("td", f"{ASKED[bar.rule]} {rounded_percent(bar.threshold)}"),
        tag("td", "✓ reached" if bar.passed else "✕ not reached", class_="passed" if bar.passed else "broken"),
    )
