"""A comparison in, a table for a terminal or a README out."""

from __future__ import annotations

from collections import Counter

from hqclip.report import Comparison, Score


def text_table(comparison: Comparison) -> str:
    """Markdown: benchmarks as rows, models as columns, differences to the baseline with their 95 % intervals."""
    lines = [["", *(model.name for model in comparison.models)]]
    for group in comparison.groups:
        titles = Counter(row.benchmark for row in group.rows)
        for row in group.rows:
            detail = f", {row.metric}" if titles[row.benchmark] > 1 else ""
            lines.append([f"{group.kind}: {row.benchmark}{detail}", *map(_cell, row.scores)])
    lines.append([comparison.average.benchmark, *map(_cell, comparison.average.scores)])
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
