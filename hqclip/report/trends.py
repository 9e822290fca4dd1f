"""Values over cycles in, an inline SVG out: lines with their intervals as a band, dots where something was decided."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from hqclip.report.charts import (
    BOTTOM,
    DASHES,
    HEIGHT,
    LABEL_LETTERS,
    LEFT,
    LETTER_WIDTH,
    TOP,
    WIDTH,
    Axis,
    Points,
    axis,
    colour,
    curve_path,
    end_labels,
    finite,
    stroke,
    writing,
)
from hqclip.report.markup import Html, number, tag, whole

WIDE = 2 * WIDTH
DENSE = 100  # points of a line that is drawn thinner
FLOOR = HEIGHT - BOTTOM
Band = Sequence[tuple[float, float, float]]  # cycle, low, high


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Lines over the numbers of cycles. Values that are not finite leave a gap in a line, and bands are cut there.

    `bands` are by the name of their line, `marks` are points of the line of that name. `say` writes a value, `limits`
    are values worth a line of their own, `breaks` are where something else is measured from then on.
    """

    name: str
    lines: Mapping[str, Points]
    caption: str = ""
    say: Callable[[float], str] = number
    bands: Mapping[str, Sequence[Band]] = field(default_factory=dict)
    marks: Mapping[str, Points] = field(default_factory=dict)
    limits: Mapping[float, str] = field(default_factory=dict)
    breaks: Sequence[float] = ()
    from_zero: bool = True


def figure(trend: Trend, is_wide: bool = False) -> Html:
    """The chart under its name; twice if it is to be wide, for large and for small screens."""
    styles = {name: style for style, name in enumerate(trend.lines, 1)}
    drawn = [chart(trend, styles, WIDE, "wide"), chart(trend, styles, WIDTH, "narrow")]
    charts = drawn if is_wide else [chart(trend, styles, WIDTH)]
    caption = tag("figcaption", trend.caption) if trend.caption else ""
    return tag("figure", tag("h3", trend.name), *charts, caption)


def chart(trend: Trend, styles: Mapping[str, int], width: int = WIDTH, kind: str = "") -> Html:
    """The lines, labelled at their ends, over their bands; `styles` gives every line its colour. The first is solid."""
    curves = [(name, points) for name, points in trend.lines.items() if finite(points)]
    if not curves:
        return tag("p", "Nothing is known.", class_="quiet")
    right = width - 16 - LETTER_WIDTH * max(min(len(name), LABEL_LETTERS) for name, _ in curves)
    horizontal = axis((x for _, points in curves for x, _ in points), 4, round_ends=False)
    vertical = axis(_values(trend, curves))
    longest = max(len(points) for _, points in curves)
    ends = "; ".join(f"{name} ends at {trend.say(finite(points)[-1][1])}" for name, points in curves)
    return tag(
        "svg",
        *_frame(trend, horizontal, vertical, right),
        *(
            _band(band, styles[name], horizontal, vertical, right)
            for name, bands in trend.bands.items()
            if name in styles
            for band in bands
        ),
        *(
            curve_path(points, styles[name], horizontal, vertical, right, DASHES[n % len(DASHES)])
            for n, (name, points) in enumerate(curves)
        ),
        *(
            _mark(x, y, styles[name], horizontal, vertical, right)
            for name, points in trend.marks.items()
            if name in styles
            for x, y in finite(points)
        ),
        *end_labels(curves, styles, vertical, right),
        viewBox=f"0 0 {width} {HEIGHT}",
        role="img",
        aria_label=f"{trend.name} by cycle: {ends}",
        class_=" ".join(filter(None, ["chart trend", kind, "dense" if longest > DENSE else ""])),
    )


def _values(trend: Trend, curves: Sequence[tuple[str, Points]]) -> list[float]:
    values = [y for _, points in curves for _, y in finite(points)]
    values += [end for bands in trend.bands.values() for band in bands for _, *ends in band for end in ends]
    values += [value for value in trend.limits if value <= 1.5 * max(values)]
    return [value for value in [*values, *([0.0] if trend.from_zero else [])] if math.isfinite(value)]


def _frame(trend: Trend, horizontal: Axis, vertical: Axis, right: float) -> list[Html]:
    parts = [writing(right, HEIGHT - 4, "cycle", "axis", "end")]
    for mark in vertical.ticks:
        y = vertical.place(mark, FLOOR, TOP)
        parts += [stroke(LEFT, y, right, y, "grid"), writing(LEFT - 6, y + 4, trend.say(mark), "tick", "end")]
    for mark in horizontal.ticks:
        if mark == int(mark):  # there are no half cycles
            x = horizontal.place(mark, LEFT, right)
            label = writing(x, FLOOR + 16, whole(int(mark)), "tick", "middle")
            parts += [stroke(x, FLOOR, x, FLOOR + 4, "grid"), label]
    for at in trend.breaks:
        x = horizontal.place(at, LEFT, right)
        parts += [stroke(x, TOP, x, FLOOR, "limit"), writing(x + 4, TOP + 10, "other suite", "tick")]
    for value, name in trend.limits.items():
        if vertical.low <= value <= vertical.high:
            y = vertical.place(value, FLOOR, TOP)
            parts += [stroke(LEFT, y, right, y, "limit"), writing(LEFT + 4, y - 4, name, "tick")]
    return parts


def _band(band: Band, style: int, horizontal: Axis, vertical: Axis, right: float) -> Html:
    """A filled strip; of a lone cycle a line with ends."""
    known = [each for each in band if all(map(math.isfinite, each))]

    def point(x: float, y: float) -> str:
        return f"{horizontal.place(x, LEFT, right):.1f} {vertical.place(y, FLOOR, TOP):.1f}"

    if len(known) == 1:
        ((x, low, high),) = known
        return tag("path", d=f"M{point(x, low)}L{point(x, high)}", class_=f"whisker {colour(style)}")
    there, back = [point(x, high) for x, _, high in known], [point(x, low) for x, low, _ in reversed(known)]
    return tag("path", d=f"M{'L'.join([*there, *back])}Z" if known else "", class_=f"band {colour(style)}")


def _mark(x: float, y: float, style: int, horizontal: Axis, vertical: Axis, right: float) -> Html:
    across, up = horizontal.place(x, LEFT, right), vertical.place(y, FLOOR, TOP)
    return tag("circle", cx=f"{across:.1f}", cy=f"{up:.1f}", r=4, class_=f"promoted {colour(style)}")
