"""Curves and intervals in, inline SVG out. Models differ by dash as well as by colour; colours live in `style.css`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hqclip.report import Curve, Difference, LossChart
from hqclip.report.markup import Html, cut, number, tag, whole

WIDTH, HEIGHT = 460, 250
LEFT, TOP, BOTTOM = 44, 22, 36
LABEL_LETTERS, LETTER_WIDTH, LINE_HEIGHT = 18, 6.4, 15
MAX_POINTS = 160  # of one curve; longer curves are averaged
DASHES = ("none", "8 5", "0.1 5", "12 5 0.1 5", "3 5", "18 4")  # with round ends, so 0.1 is a dot
COLOURS = 6

GLYPH_WIDTH, GLYPH_HEIGHT, GLYPH_PADDING, LABEL_GAP = 130, 16, 12, 24

Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Axis:
    """A stretch of numbers with round ticks on it."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float, start: float, end: float) -> float:
        """Where `value` lies if `low` is drawn at `start` and `high` at `end`."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def axis(values: Iterable[float], ticks: int = 5, round_ends: bool = True) -> Axis:
    """An axis over the values with about that many ticks at 1, 2 or 5 times a power of ten."""
    known = list(values)
    low, high = min(known), max(known)
    if math.isclose(low, high):
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    rough = (high - low) / ticks
    power = math.floor(math.log10(rough))
    unit = next((m for m in (1, 2, 5) if m * 10.0**power >= rough * (1 - 1e-9)), 10)
    first = math.floor(low / unit / 10.0**power + 1e-9)
    last = math.ceil(high / unit / 10.0**power - 1e-9)
    marks = tuple(float(f"{n * unit}e{power}") for n in range(first, last + 1))  # 0.3, not 0.30000000000000004
    if round_ends:
        return Axis(marks[0], marks[-1], marks)
    return Axis(low, high, tuple(mark for mark in marks if low <= mark <= high))


def line_chart(chart: LossChart, styles: Mapping[str, int]) -> Html:
    """The curves of one part of the loss, labelled at their ends; `styles` gives every model its number."""
    curves = [(curve.model, drawn) for curve in chart.curves if finite(drawn := _thinned(curve))]
    if not curves:
        return tag("p", "No finite values were recorded.", class_="quiet")
    right = WIDTH - 16 - LETTER_WIDTH * max(min(len(model), LABEL_LETTERS) for model, _ in curves)
    values = [y for _, drawn in curves for _, y in finite(drawn)]
    horizontal = axis((step for curve in chart.curves for step, _ in curve.points), 4, round_ends=False)
    vertical = axis(values)
    ends = "; ".join(f"{model} ends at {number(finite(drawn)[-1][1])}" for model, drawn in curves)
    return tag(
        "svg",
        *_frame(horizontal, vertical, right),
        *(curve_path(drawn, styles[model], horizontal, vertical, right) for model, drawn in curves),
        *end_labels(curves, styles, vertical, right),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{chart.name} by step: {ends}",
        class_="chart",
    )


def _thinned(curve: Curve) -> Points:
    """The curve in at most `MAX_POINTS` points, each the mean of as many neighbours."""
    size = math.ceil(len(curve.points) / MAX_POINTS)
    return [_mean(curve.points[i : i + size]) for i in range(0, len(curve.points), size or 1)]


def _mean(chunk: Sequence[tuple[int, float]]) -> tuple[float, float]:
    values = [y for _, y in chunk if math.isfinite(y)]
    return sum(x for x, _ in chunk) / len(chunk), sum(values) / len(values) if values else math.nan


def finite(drawn: Points) -> Points:
    """The points that have a value."""
    return [point for point in drawn if math.isfinite(point[1])]


def _frame(horizontal: Axis, vertical: Axis, right: float) -> list[Html]:
    """Grid lines with their numbers, and what the axes mean."""
    bottom = HEIGHT - BOTTOM
    parts = [writing(4, 11, "loss", "axis"), writing(right, HEIGHT - 4, "step", "axis", "end")]
    for mark in vertical.ticks:
        y = vertical.place(mark, bottom, TOP)
        parts += [stroke(LEFT, y, right, y, "grid"), writing(LEFT - 6, y + 4, number(mark), "tick", "end")]
    for mark in horizontal.ticks:
        if mark == int(mark):  # there are no half steps
            x = horizontal.place(mark, LEFT, right)
            label = writing(x, bottom + 16, whole(int(mark)), "tick", "middle")
            parts += [stroke(x, bottom, x, bottom + 4, "grid"), label]
    return parts


def curve_path(
    drawn: Points, style: int, horizontal: Axis, vertical: Axis, right: float, pattern: str | None = None
) -> Html:
    """A path with a gap wherever a value is not finite; a lone point is a dot. Dashes are those of the style."""
    moves, pen_down = [], False
    for x, y in drawn:
        if math.isfinite(y):
            across = horizontal.place(x, LEFT, right)
            up = vertical.place(y, HEIGHT - BOTTOM, TOP)
            moves.append(f"{'L' if pen_down else 'M'}{across:.1f} {up:.1f}{'' if pen_down else 'h0'}")
        pen_down = math.isfinite(y)
    return tag("path", d="".join(moves), stroke_dasharray=pattern or dash(style), class_=f"curve {colour(style)}")


def end_labels(curves: list[tuple[str, Points]], styles: Mapping[str, int], vertical: Axis, right: float) -> list[Html]:
    """The models' names at the ends of their curves, pushed apart where they would touch."""
    bottom = HEIGHT - BOTTOM
    wanted = sorted((vertical.place(finite(drawn)[-1][1], bottom, TOP), model) for model, drawn in curves)
    heights: list[float] = []
    for y, _ in wanted:
        heights.append(max(y, heights[-1] + LINE_HEIGHT) if heights else y)
    lowest: float = bottom
    for i in reversed(range(len(heights))):
        heights[i] = min(heights[i], lowest)
        lowest = heights[i] - LINE_HEIGHT
    return [
        writing(right + 8, height + 4, cut(model, LABEL_LETTERS), f"end {colour(styles[model])}")
        for height, (_, model) in zip(heights, wanted, strict=True)
    ]


def colour(style: int) -> str:
    """The CSS class of a model."""
    return f"model-{style % COLOURS}"


def dash(style: int) -> str:
    """The dash pattern of a model; when the colours begin again the patterns are shifted."""
    return DASHES[(style + style // COLOURS) % len(DASHES)]


def swatch(style: int) -> Html:
    """A short piece of a model's curve, for legends and column heads."""
    line = tag("path", d="M1 5H33", stroke_dasharray=dash(style), class_=f"curve {colour(style)}")
    return tag("svg", line, viewBox="0 0 34 10", width=34, height=10, aria_hidden="true", class_="swatch")


def interval_glyph(difference: Difference, scale: Axis, style: int) -> Html:
    """A dot on its interval; all rows share `scale`, so that a column reads as one chart around its zero line."""
    middle = GLYPH_HEIGHT / 2
    dot, low, high = (_across(v, scale) for v in (difference.value, difference.low, difference.high))
    whiskers = (stroke(x, middle - 6, x, middle + 6, "whisker") for x in (low, high))
    return _glyph(
        stroke(low, middle, high, middle, "whisker"),
        *whiskers,
        tag("circle", cx=f"{dot:.1f}", cy=middle, r=3.5, class_="dot"),
        style=style,
    )


def scale_glyph(scale: Axis, style: int) -> Html:
    """The numbers above a column of intervals: its ends and zero, in percentage points."""
    zero = zero_line(scale)
    labels = [writing(zero, 12, "0", "tick", "middle")]
    for mark in (scale.low, scale.high):
        x = _across(mark, scale)
        if abs(x - zero) > LABEL_GAP:
            labels.append(writing(x, 12, f"{100 * mark:+g}".replace("-", "−"), "tick", "middle"))
    return _glyph(*labels, style=style)


def zero_line(scale: Axis) -> float:
    """How far from the left of a glyph the zero of its scale lies, pixels."""
    return _across(0, scale)


def _across(value: float, scale: Axis) -> float:
    return scale.place(value, GLYPH_PADDING, GLYPH_WIDTH - GLYPH_PADDING)


def _glyph(*parts: Html, style: int) -> Html:
    return tag(
        "svg",
        *parts,
        viewBox=f"0 0 {GLYPH_WIDTH} {GLYPH_HEIGHT}",
        width=GLYPH_WIDTH,
        height=GLYPH_HEIGHT,
        aria_hidden="true",
        class_=f"glyph {colour(style)}",
    )


def stroke(x1: float, y1: float, x2: float, y2: float, kind: str) -> Html:
    """A straight line from one point to another."""
    return tag("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=kind)


def writing(x: float, y: float, text: str, kind: str, anchor: str = "start") -> Html:
    """Text that starts, ends or is centred at a point."""
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", text_anchor=anchor, class_=kind)
