"""What a cycle or sweep may spend in GPU-hours and dollars, held against what it has spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hqclip import log
from hqclip.cycle.budget.spending import gpu_hours, marks
from hqclip.cycle.prices import Price, device_of, price_range
from hqclip.errors import HQClipError
from hqclip.stages import LAUNCHABLE
from hqclip.store import Store
from hqclip.store.documents import number_in

NONE = -1.0  # no limit


@dataclass(frozen=True)
class Budget:
    """At most so many GPU-hours and dollars, -1 for no limit; `prices` are USD of a GPU-hour by stage, if known."""

    gpu_hours: float = NONE
    dollars: float = NONE
    prices: Mapping[str, float | None] = field(default_factory=dict)

    @classmethod
    def of_mark(cls, said: Any) -> Budget:
        """What is known of it from a mark, which may be damaged or of a newer version."""
        given = said if isinstance(said, Mapping) else {}
        prices = given["prices"] if isinstance(given.get("prices"), Mapping) else {}
        known = {stage: price for stage, price in prices.items() if isinstance(price, int | float)}
        return cls(number_in(given, "gpu_hours") or NONE, number_in(given, "dollars") or NONE, known)

    @property
    def is_set(self) -> bool:
        """Whether there is a limit."""
        return self.gpu_hours != NONE or self.dollars != NONE

    def usd(self, hours: Mapping[str, float]) -> float | None:
        """What GPU-hours by stage cost; None where one of them has no price."""
        prices = [(self.prices.get(stage), spent) for stage, spent in hours.items()]
        if any(price is None for price, _ in prices):
            return None
        return sum(price * spent for price, spent in prices if price is not None)

    def excess(self, hours: Mapping[str, float]) -> str:
        """Which limit is passed and how far, empty if none is."""
        spent, usd = sum(hours.values()), self.usd(hours)
        if self.gpu_hours != NONE and spent > self.gpu_hours:
            return f"{spent:.4g} GPU-hours are more than its budget of {self.gpu_hours:g}"
        if self.dollars != NONE and usd is not None and usd > self.dollars:
            return f"${usd:.2f} is more than its budget of ${self.dollars:g}"
        return ""

    def in_words(self) -> str:
        """`50 GPU-hours and $100`."""
        limits = [f"{self.gpu_hours:g} GPU-hours"] if self.gpu_hours != NONE else []
        return " and ".join([*limits, *([f"${self.dollars:g}"] if self.dollars != NONE else [])])


def stage_prices(machines: Mapping[str, Mapping[str, Any]], table: Sequence[Price]) -> dict[str, float | None]:
    """The high end of the price of each stage's device; of the whole table where the device is not known."""
    return {stage: price_range(device_of(machines.get(stage, {})), table)[1] for stage in LAUNCHABLE}


def what_it_took(store: Store, notes: str) -> dict[str, str]:
    """For a page: GPU-hours by stage and in all, the budget, dollars if it has them; empty where no task held a GPU."""
    try:
        hours = gpu_hours(store, notes)
    except HQClipError as error:
        log.warning("budget", f"what was spent is not known: {error}")
        return {}
    if not hours:
        return {}
    budget = Budget.of_mark(marks(store, notes)[-1].get("budget"))
    told = {stage: f"{spent:.4g} GPU-hours" for stage, spent in hours.items()}
    told["in all"] = f"{sum(hours.values()):.4g} GPU-hours"
    if budget.dollars != NONE and (usd := budget.usd(hours)) is not None:
        told["in all"] += f", ${usd:.2f} as the budget counts"
    return {**told, "budget": budget.in_words()} if budget.is_set else told


def by_stage(hours: Mapping[str, float]) -> str:
    """`annotate 40.1, train 10.2`."""
    return ", ".join(f"{stage} {spent:.4g}" for stage, spent in hours.items())
