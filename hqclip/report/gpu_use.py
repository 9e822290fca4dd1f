"""What each task took of GPUs in, the section about it out."""

from __future__ import annotations

from collections.abc import Sequence

from hqclip.report import GpuUse
from hqclip.report.costs import decimal
from hqclip.report.document import section
from hqclip.report.markup import Html, duration, percent, tag, wide_table

CAPTION = (
    "GPU time is that of all GPUs together. Busy is as their driver tells, for training those of the first machine; "
    "idle is the rest. Waited for: from the launch, and after a restart, until the machines were there. Lost: steps "
    "that were done again, and getting ready again."
)
COLUMNS = ("task", "GPU time", "busy", "idle", "waited for", "restarts", "lost", "in a GPU-hour")
UNKNOWN = "–"


def how_gpus_were_used(rows: Sequence[GpuUse]) -> Html:
    """A row for each task."""
    head = tag("tr", *(tag("th", name, scope="col") for name in COLUMNS))
    body = tag("tbody", *map(_row, rows))
    return section("How the GPUs were used", CAPTION, wide_table("GPU time by task", tag("thead", head), body))


def _row(row: GpuUse) -> Html:
    busy = None if row.busy_share is None else row.busy_share * row.gpu_seconds
    cells = (
        duration(row.gpu_seconds),
        UNKNOWN if row.busy_share is None else f"{_time(busy)} ({percent(row.busy_share)})",
        UNKNOWN if busy is None else _time(row.gpu_seconds - busy),
        _time(row.queued),
        str(row.restarts),
        _time(row.lost),
        UNKNOWN if row.an_hour is None else f"{decimal(row.an_hour)} {row.unit}",
    )
    return tag("tr", tag("th", row.task, scope="row"), *(tag("td", cell) for cell in cells))


def _time(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else duration(seconds)
