"""A cycle that is wanted in, what each of its stages will take out, before anything is launched.

A stage that nothing is known of is `unknown`, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hqclip.config import CostConfig, PlanConfig
from hqclip.cycle.cost.history import History
from hqclip.cycle.cost.rows import rows_of
from hqclip.cycle.cost.storage import storage
from hqclip.cycle.cost.work import work_of_stages
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.prices import read_prices
from hqclip.data.sources import list_shards
from hqclip.errors import ConfigError
from hqclip.launch.resolve import plan_machines
from hqclip.stages import LAUNCHABLE
from hqclip.store import open_store

_HOURS = re.compile(rf"(?P<stage>{'|'.join(LAUNCHABLE)})=(?P<hours>\d+(\.\d+)?)", re.ASCII).fullmatch


def run(config: CostConfig) -> dict[str, Any]:
    """The estimate, and what a reader of it must know. Raises `ConfigError` if it may exceed `max_cost`."""
    rows = estimate(config)
    check_budget(rows, config.max_cost)
    stored = {"storage": storage(open_store(config.store), config.storage_price)} if config.storage_price >= 0 else {}
    return {"stages": rows, **stored, "notes": list(notes(config, rows))}


def estimate(config: CostConfig) -> list[dict[str, Any]]:
    """A row a stage, and one for all: amount, tokens, GPU-hours, hours, dollars from low to high, and the basis."""
    plan = PlanConfig(
        store=config.store,
        shards=config.shards,
        suite="-",
        preset=config.preset,
        trials=config.trials,
        overrides=config.overrides,
    )
    settings, trials = resolve(plan)
    runnable = {stage: {**values, "store": config.store} for stage, values in settings.items()}
    machines = plan_machines(config.launch, runnable)
    prices, stated = read_prices(config.gpu_prices), _read_hours(config.gpu_hours)
    store = open_store(config.store)
    history = History(store, settings)
    works = work_of_stages(_shards(config.shards), config.images, store, settings, trials, history)
    return rows_of(works, history, machines, prices, stated)


def check_budget(rows: Sequence[Mapping[str, Any]], limit: float) -> None:
    """Raises `ConfigError` with the figures if it may cost more than `limit` dollars, or if that cannot be told.

    A limit below 0 is none.
    """
    *stages, total = rows
    if limit < 0:
        return
    unknown = [row["stage"] for row in stages if row["usd_high"] is None]
    if unknown:
        raise ConfigError(
            f"--max-cost {limit:g}: nothing is known of {', '.join(unknown)}; run `hqclip annotate pilot` or a small "
            "cycle first, or say what you know with --gpu-hours STAGE=HOURS"
        )
    if total["usd_high"] > limit:
        parts = ", ".join(f"{row['stage']} {row['usd_low']:.2f}-{row['usd_high']:.2f}" for row in stages)
        raise ConfigError(
            f"it may cost ${total['usd_low']:.2f} to ${total['usd_high']:.2f} ({parts}), more than --max-cost {limit:g}"
        )


def notes(config: CostConfig, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a reader of the figures must know."""
    if not config.gpu_prices:
        table = ", ".join(f"{price.word} ${price.low:.2f}-{price.high:.2f}" for price in read_prices())
        yield f"prices are figures to plan with ({table} a GPU-hour); give yours with --gpu-prices H100=2.5-4.0"
    if any(row["gpu_hours"] is not None and row["usd_high"] is None for row in rows):
        yield "the table has no price for some of these GPUs; give it with --gpu-prices"
    if rows[-1]["basis"]:
        yield f"the sum is {rows[-1]['basis']}: run `hqclip annotate pilot` or a small cycle to know more"


def _shards(pattern: str) -> Iterator[tuple[int, int | str]]:
    """Size and identity of each; listed when the first is taken."""
    yield from ((shard.size, shard.identity) for _, shard in list_shards(pattern))


def _read_hours(assignments: Sequence[str]) -> dict[str, float]:
    """`train=40` and the like. Raises `ConfigError`."""
    matches = {text: _HOURS(text) for text in assignments}
    bad = [text for text, match in matches.items() if match is None]
    if bad:
        raise ConfigError(f"--gpu-hours: {bad[0]!r} is not like train=40; the stages are {', '.join(LAUNCHABLE)}")
    return {match["stage"]: float(match["hours"]) for match in matches.values() if match}
