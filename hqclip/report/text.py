"""A comparison, or what decided, in; a table for a terminal or a README out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hqclip.records import Bar
from hqclip.report import Comparison, Score
from hqclip.report.gate import ASKED, COLUMNS


def text_table(comparison: Comparison) -> str:
    """Markdown: benchmarks as rows, models as columns, differences to the baseline with their 95 % intervals."""
    lines = [["", *(model.name for model in comparison.models)]]
    for group in comparison.groups:
        titles = Counter(row.benchmark for row in group.rows)
        for row in group.rows:
            detail = f", {row.metric}" if titles[row.benchmark] > 1 else ""
            lines.append([f"{group.kind}: {row.benchmark}{detail}", *map(_cell, row.scores)])
    lines.append([comparison.average.benchmark, *map(_cell, comparison.average.scores)])
    return _markdown(lines)


def gate_table(bars: Iterable[Bar]) -> str:
    """Markdown: what a candidate had to reach, line by line, and whether it did; empty without any."""
    lines = [[*COLUMNS], *(_bar(bar) for bar in bars)]
    return _markdown(lines) if len(lines) > 1 else ""


def _bar(bar: Bar) -> list[str]:
    return [
        bar.metric.replace("|", "/"),
        "-" if bar.champion is None else f"{bar.champion:.1%}",
        f"{bar.candidate:.1%}",
        "-" if bar.difference is None else "{:+.1f}; {:+.1f} to {:+.1f}".format(*(100 * d for d in bar.difference)),
        f"{ASKED[bar.rule]} {100 * bar.threshold:g}%",
        "reached" if bar.passed else "NOT reached",
    ]


def _markdown(lines: list[list[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def _cell(score: Score | None) -> str:
    if score is None:
        return "-"
    if score.difference is None:
        return f"{score.value:.1%}"
    d = score.difference
    return f"{score.value:.1%} ({100 * d.value:+.1f}; {100 * d.low:+.1f} to {100 * d.high:+.1f})"
