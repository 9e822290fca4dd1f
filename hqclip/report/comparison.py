"""Scores of several models in, the headline and the table of differences out."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hqclip.report import Comparison, Difference, Group, Row, Score
from hqclip.report.charts import Axis, axis, colour, interval_glyph, scale_glyph, swatch, zero_line
from hqclip.report.markup import Html, join, percent, points, tag, whole, wide_table

NOT_MEASURED = "not measured"


def headline(comparison: Comparison) -> Html:
    """The average of every model as a bar, with the difference to the baseline in words."""
    average = comparison.average
    rows = [
        tag(
            "li",
            tag("div", tag("strong", model.name), tag("small", model.about), class_="who"),
            *_headline_score(score, style, model.name == comparison.baseline),
        )
        for style, (model, score) in enumerate(zip(comparison.models, average.scores, strict=True))
    ]
    return tag("ol", *rows, class_="headline")


def _headline_score(score: Score | None, style: int, is_baseline: bool) -> Iterator[Html]:
    value = _value(score)
    yield _bar(value, style)
    yield tag("div", NOT_MEASURED if value is None else percent(value), class_=f"value {_quiet(value)}")
    difference = _difference(score)
    yield _words(difference) if difference else tag("div", "baseline" if is_baseline else "", class_="words quiet")


def table(comparison: Comparison) -> Html:
    """Every metric of every benchmark; beside each score the difference to the baseline and its interval."""
    scale = _scale(comparison)
    bodies = [_body(group, comparison, scale) for group in comparison.groups]
    average = tag("tbody", _row(comparison.average, comparison, scale), class_="average")
    return wide_table("Scores by benchmark", _head(comparison, scale), *bodies, average)


def outcome(difference: Difference) -> tuple[str, str]:
    """What may be said of a difference: an arrow and a word. An interval that contains 0 says nothing."""
    if round(difference.low, 4) <= 0 <= round(difference.high, 4):  # as printed
        return "≈", "no clear difference"
    return ("▲", "better") if difference.value > 0 else ("▼", "worse")


def differences(comparison: Comparison) -> list[Difference]:
    """All that were measured."""
    rows = (comparison.average, *(row for group in comparison.groups for row in group.rows))
    return [known for row in rows for score in row.scores if (known := _difference(score))]


def _value(score: Score | None) -> float | None:
    return score.value if score is not None and math.isfinite(score.value) else None


def _difference(score: Score | None) -> Difference | None:
    found = score.difference if score is not None else None
    return found if found and all(map(math.isfinite, (found.value, found.low, found.high))) else None


def _scale(comparison: Comparison) -> Axis | None:
    ends = [end for d in differences(comparison) for end in (d.value, d.low, d.high)]
    return axis([0.0, *ends], 6) if ends else None


def _compared(comparison: Comparison, scale: Axis | None) -> list[bool]:
    """Which models have a column of differences."""
    return [scale is not None and model.name != comparison.baseline for model in comparison.models]


def _head(comparison: Comparison, scale: Axis | None) -> Html:
    models, scales = [], []
    for style, (model, compared) in enumerate(zip(comparison.models, _compared(comparison, scale), strict=True)):
        is_baseline = model.name == comparison.baseline
        about = tag("small", "baseline" if is_baseline else model.about)
        span = 2 if compared else None
        models.append(
            tag("th", swatch(style), model.name, about, scope="colgroup" if compared else "col", colspan=span)
        )
        scales.append(tag("th", "score", scope="col"))
        if compared and scale:
            name = tag("span", f"difference to {comparison.baseline or 'the baseline'}, points", class_="hidden")
            scales.append(tag("th", name, scale_glyph(scale, style), scope="col", class_="difference"))
    first = tag("tr", tag("th", "Benchmark", scope="col", rowspan=2 if scale else None, class_="corner"), *models)
    return tag("thead", first, tag("tr", *scales) if scale else "")


def _body(group: Group, comparison: Comparison, scale: Axis | None) -> Html:
    columns = 1 + len(comparison.models) + sum(_compared(comparison, scale))
    meaning = tag("span", group.meaning) if group.meaning else ""
    words = tag("div", tag("b", group.title or group.kind), meaning, class_="kind")
    head = tag("tr", tag("th", words, colspan=columns, scope="rowgroup"))
    return tag("tbody", head, *(_row(row, comparison, scale) for row in group.rows))


def _row(row: Row, comparison: Comparison, scale: Axis | None) -> Html:
    facts = [row.metric] if row.metric else []
    facts += [f"{whole(row.items)}\u00a0items"] if row.items is not None else []
    cells = [tag("th", row.benchmark, tag("small", join(facts, "\u00a0· ")), scope="row")]
    for style, (score, compared) in enumerate(zip(row.scores, _compared(comparison, scale), strict=True)):
        value = _value(score)
        inside = [percent(value), _bar(value, style)] if value is not None else [NOT_MEASURED]
        cells.append(tag("td", *inside, class_=f"value {_quiet(value)}"))
        if compared and scale:
            cells.append(_interval(_difference(score), scale, style))
    return tag("tr", *cells)


def _bar(value: float | None, style: int) -> Html:
    """A score on the whole width from 0 to 100 %."""
    full = tag("i", class_="full", style=f"width:{_width(value)}") if value is not None else ""
    return tag("div", full, class_=f"bar {colour(style)}", aria_hidden="true")


def _width(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.1f}%"


def _quiet(value: float | None) -> str:
    return "quiet" if value is None else ""


def _interval(difference: Difference | None, scale: Axis, style: int) -> Html:
    zero = f"--zero:{zero_line(scale):.1f}px"
    if difference is None:
        return tag("td", tag("span", "not compared", class_="hidden"), class_="difference", style=zero)
    inside = tag("div", interval_glyph(difference, scale, style), _words(difference))
    return tag("td", inside, class_="difference", style=zero)


def _words(difference: Difference) -> Html:
    arrow, word = outcome(difference)
    said = tag("b", f"{arrow} {points(difference.value)} {word}")
    interval = tag("small", f"{points(difference.low)} to {points(difference.high)}")
    return tag("div", said, interval, class_=f"words {word.split()[0]}")  # better, worse, no
