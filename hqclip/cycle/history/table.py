"""A history in, a table for a terminal out: a line a cycle, the newest last."""

from __future__ import annotations

from hqclip.report.history import History, PastCycle
from hqclip.report.spending import total

HEAD = ["cycle", "when", "verdict", "average", "lead", "usable", "GPU-hours", "cost"]


def text_table(history: History) -> str:
    """Markdown; what is not known is a dash."""
    lines = [HEAD, *(_line(past) for past in history.cycles)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    rule = ["-" * width for width in widths]
    rows = [lines[0], rule, *lines[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    )


def _line(past: PastCycle) -> list[str]:
    gpu_seconds, usd = total(past.stages)
    return [
        str(past.cycle),
        past.began[:16].replace("T", " ") or "-",
        past.verdict,
        "-" if past.average is None else f"{past.average:.1%}",
        "-" if past.lead is None else "{:+.1f}; {:+.1f} to {:+.1f}".format(*(100 * part for part in past.lead)),
        "-" if past.usable is None else f"{past.usable:,}",
        "-" if gpu_seconds is None else f"{gpu_seconds / 3600:.2f}",
        "-" if usd is None else "${:.2f} to ${:.2f}".format(*usd),
    ]
