"""Work of stages and what the store has seen in, a row for each with its GPU-hours and dollars out, and one for all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hqclip.cycle.cost.history import History, Pace
from hqclip.cycle.cost.work import Work
from hqclip.cycle.prices import Price, device_of, price_range


def rows_of(
    works: Iterable[Work],
    history: History,
    machines: Mapping[str, Mapping[str, Any]],
    prices: Sequence[Price],
    stated: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Amount, tokens, GPU-hours, hours, dollars from low to high, and the basis; `stated` are GPU-hours of stages.

    The sum is of what is known: its basis names what is not.
    """
    rows = []
    for work in works:
        pace = history.pace(work.stage)
        if work.stage in stated:
            device = pace.device if pace.gpu_seconds else ""
            pace = Pace(float(work.amount or 1), 3600 * stated[work.stage], "as you say", device)
            work = Work(work.stage, work.amount or 1, work.unit, work.about)
        rows.append(_row(work, pace, machines.get(work.stage, {}), prices))
    return [*rows, _total(rows)]


def _row(work: Work, pace: Pace, machine: Mapping[str, Any], prices: Sequence[Price]) -> dict[str, Any]:
    scale = work.amount / pace.amount if pace.amount and work.amount is not None else None
    hours = scale * pace.gpu_seconds / 3600 if scale is not None and pace.gpu_seconds else None
    if work.amount == 0:
        hours, scale = 0.0, 0.0
    gpus = int(machine.get("nodes", 1)) * max(1, int(machine.get("gpus", 1)))
    low, high = price_range(device_of(machine) or pace.device, prices)
    return {
        "stage": work.stage,
        "amount": work.amount,
        "unit": work.unit,
        "tokens": round(scale * pace.tokens) if scale is not None and pace.tokens else None,
        "gpu_hours": round(hours, 3) if hours is not None else None,
        "hours": round(hours / gpus, 3) if hours is not None else None,
        "usd_low": _dollars(hours, low),
        "usd_high": _dollars(hours, high),
        "basis": "; ".join(filter(None, ["nothing to do" if work.amount == 0 else pace.basis, work.about])),
    }


def _dollars(hours: float | None, price: float | None) -> float | None:
    if hours == 0:
        return 0.0
    return None if hours is None or price is None else round(hours * price, 2)


def _total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known, added up."""
    unknown = [row["stage"] for row in rows if row["usd_high"] is None]
    sums = {
        name: round(sum(row[name] for row in rows if row[name] is not None), 3)
        for name in ("tokens", "gpu_hours", "hours", "usd_low", "usd_high")
    }
    if unknown and not sums["gpu_hours"]:
        sums = dict.fromkeys(sums)  # nothing known is not nothing to pay
    basis = f"without {', '.join(unknown)}" if unknown else ""
    return {"stage": "all", "amount": None, "unit": "", **sums, "basis": basis}
