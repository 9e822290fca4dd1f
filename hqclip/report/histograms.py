"""Counts by bin in, an inline SVG out: bars of shares, with the outline of other counts and a line at a value."""

from __future__ import annotations

from collections.abc import Sequence

from hqclip.report.charts import HEIGHT, LEFT, TOP, WIDTH, Axis, axis, stroke, writing
from hqclip.report.markup import Html, rounded_percent, tag
from hqclip.report.refinement import Histogram

RIGHT, BOTTOM = WIDTH - 8, HEIGHT - 30
GAP = 0.08  # of a bin, on each side of its bar
LETTER = 7.0  # pixels, of a number below the bars
STABLE, LARGE = 0.1, 0.25  # population stability indexes, as they are commonly read


def histogram(shown: Histogram) -> Html:
    """The bins between the first and the last that hold anything, equally wide; heights are shares of all counts."""
    first, last = _span(shown)
    total, other = sum(shown.counts), sum(shown.outline)
    if not total:
        return tag("p", "Nothing to count.", class_="quiet")
    names = bin_names(shown.starts)[first:last]
    if not _are_whole(shown.starts):
        names = [name.split()[0] for name in names]
    shares = [count / total for count in shown.counts[first:last]]
    outline = [count / other for count in shown.outline[first:last]] if other else []
    vertical = axis([0.0, *shares, *outline], 4)
    width = (RIGHT - LEFT) / len(shares)
    lines = [n for n, start in enumerate(shown.starts[first:last]) if n and start == shown.line]
    return tag(
        "svg",
        *_frame(vertical),
        *(_bar(n, share, width, vertical) for n, share in enumerate(shares) if share),
        *([_outline(outline, width, vertical)] if outline else []),
        *(part for n in lines for part in _value_line(LEFT + n * width, shown.line_name)),
        *_bin_labels(names, width),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{shown.name}: {in_words(shown)}",
        class_="chart histogram",
    )


def in_words(shown: Histogram) -> str:
    """`middle 10 to 14, most often 15 to 19`: the bins in which the median and the largest count lie."""
    names = bin_names(shown.starts)
    if not sum(shown.counts):
        return "nothing to count"
    return f"middle {names[_median(shown.counts)]}, most often {names[shown.counts.index(max(shown.counts))]}"


def drift_in_words(value: float) -> str:
    """`0.31: a large change`."""
    return f"{value:.2f}: {'stable' if value < STABLE else 'a change' if value < LARGE else 'a large change'}"


def bin_names(starts: Sequence[float]) -> list[str]:
    """`3`, `6 to 7`, and `12 or more` for the last; `0.25 to 0.30` where not all begin at whole numbers."""
    if not _are_whole(starts):
        ends = [f"{start:.2f}".replace("-", "−") for start in starts]
        return [*(f"{a} to {b}" for a, b in zip(ends, ends[1:], strict=False)), f"{ends[-1]} or more"]
    whole = [int(start) for start in starts]
    names = [f"{a}" if b == a + 1 else f"{a} to {b - 1}" for a, b in zip(whole, whole[1:], strict=False)]
    return [*names, f"{whole[-1]} or more"]


def _are_whole(starts: Sequence[float]) -> bool:
    return all(start == int(start) for start in starts)


def _median(counts: Sequence[int]) -> int:
    half, passed = sum(counts) / 2, 0
    for number, count in enumerate(counts):
        passed += count
        if passed >= half:
            return number
    return len(counts) - 1


def _span(shown: Histogram) -> tuple[int, int]:
    """From the first bin that holds anything to behind the last, with the line in view if it lies close."""
    outline = shown.outline or (0,) * len(shown.counts)
    held = [n for n, pair in enumerate(zip(shown.counts, outline, strict=True)) if any(pair)] or [0]
    first, last = held[0], held[-1] + 1
    if shown.line in shown.starts:
        at = shown.starts.index(shown.line)
        first, last = min(first, at - 1), max(last, at + 1)
    return max(first, 0), last


def _frame(vertical: Axis) -> list[Html]:
    parts: list[Html] = []
    for mark in vertical.ticks:
        y = vertical.place(mark, BOTTOM, TOP)
        parts += [stroke(LEFT, y, RIGHT, y, "grid"), writing(LEFT - 6, y + 4, rounded_percent(mark), "tick", "end")]
    return parts


def _bar(n: int, share: float, width: float, vertical: Axis) -> Html:
    top = vertical.place(share, BOTTOM, TOP)
    return tag(
        "rect",
        x=f"{LEFT + (n + GAP) * width:.1f}",
        y=f"{top:.1f}",
        width=f"{width * (1 - 2 * GAP):.1f}",
        height=f"{max(BOTTOM - top, 1.0):.1f}",
        rx=2,
        class_="column",
    )


def _outline(shares: Sequence[float], width: float, vertical: Axis) -> Html:
    moves = [f"M{LEFT} {BOTTOM}"]
    for n, share in enumerate(shares):
        moves.append(f"V{vertical.place(share, BOTTOM, TOP):.1f}H{LEFT + (n + 1) * width:.1f}")
    return tag("path", d="".join(moves) + f"V{BOTTOM}", class_="outline")


def _value_line(x: float, name: str) -> list[Html]:
    return [stroke(x, TOP - 8, x, BOTTOM, "limit"), writing(x + 5, TOP - 1, name, "tick")]


def _bin_labels(names: Sequence[str], width: float) -> list[Html]:
    """Below every bin if there is room, else below every second or third."""
    short = [name.replace(" to ", "–").replace(" or more", "+") for name in names]
    step = max(1, -int(-LETTER * (max(map(len, short)) + 1) // width))
    return [
        writing(LEFT + (n + 0.5) * width, BOTTOM + 16, name, "tick", "middle")
        for n, name in enumerate(short)
        if n % step == 0
    ]
