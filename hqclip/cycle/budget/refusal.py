"""A cycle or sweep that is about to begin in; refused if what it has spent and what is left may exceed its budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hqclip.config import PlanConfig, SweepConfig
from hqclip.cycle.budget.limit import Budget, by_stage, stage_prices
from hqclip.cycle.budget.spending import gpu_hours
from hqclip.cycle.cost.history import History
from hqclip.cycle.cost.rows import rows_of
from hqclip.cycle.cost.work import Work, training_work, work_of_stages
from hqclip.cycle.prices import default_prices, read_prices
from hqclip.errors import BudgetError, ConfigError
from hqclip.store import Store

NO_POOL = "the store has no pool to count images by"
Settings = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What is to be done: a cycle, or a sweep, which has no shards; `name` is for people.

    Of each shard there are its size and its identity.
    """

    name: str
    notes: str
    settings: Settings
    trials: Sequence[Mapping[str, Any]]
    shards: Sequence[tuple[int, int | str]] = ()


def budget_of(config: PlanConfig | SweepConfig, settings: Settings, machines: Settings) -> Budget:
    """The budget that is asked for, with prices. Raises `ConfigError` for prices that are none, or that are missed."""
    table = read_prices(config.gpu_prices or settings.get("annotate", {}).get("gpu_prices", default_prices()))
    budget = Budget(config.budget, config.budget_dollars, stage_prices(machines, table))
    missed = [stage for stage, price in budget.prices.items() if price is None]
    if config.budget_dollars > 0 and missed:
        raise ConfigError(
            f"budget_dollars: there is no price for the GPUs of {', '.join(missed)}; give it with gpu_prices "
            "(in a pipeline plan_gpu_prices), such as H100=2.5,L4=0.7"
        )
    return budget


def refuse_excess(store: Store, asked: Asked, budget: Budget) -> str:
    """A sentence about the budget, empty without one. Raises `BudgetError` with the figures if it may be exceeded.

    A stage that nothing is known of is not guessed: then only what is known, and what was spent, can be too much.
    """
    if not budget.is_set:
        return ""
    spent = gpu_hours(store, asked.notes)
    history = History(store, asked.settings)
    left = _left(store, asked, history)
    *rows, _ = rows_of(left, history, {}, [], {})
    in_all = _in_all(spent, _hours(rows), _hours(rows_of(_from_the_start(left, asked), history, {}, [], {})))
    rest = {stage: hours - spent.get(stage, 0.0) for stage, hours in in_all.items()}
    lower = [*(["shards"] if asked.shards else []), *(["trials or train.samples_seen"] if asked.trials else [])]
    unknown = [row["stage"] for row in rows if row["gpu_hours"] is None]
    taken = f"it has taken {sum(spent.values()):.4g} GPU-hours" + (f" ({by_stage(spent)})" if spent else "")
    is_left = any(work.amount != 0 for work in left)  # what only writes documents costs nothing
    if is_left and (excess := budget.excess(in_all)):
        raise BudgetError(
            f"{asked.name}: {excess}: {taken}, and what is left is estimated so, in GPU-hours: {_basis(rows, rest)}. "
            f"Lower {' or '.join(lower)}, or give a larger budget; nothing was begun"
        )
    said = f"; of its budget of {budget.in_words()} {taken}, and what is left is estimated at {sum(rest.values()):.4g}"
    if unknown:
        said += f" without {', '.join(unknown)}, of which nothing is known: what is measured decides"
    return said


def _in_all(spent: Mapping[str, float], left: Mapping[str, float], whole: Mapping[str, float]) -> dict[str, float]:
    """GPU-hours of each stage when it is done.

    Of a task that was stopped in its midst all counts as left, though it goes on from there: a stage takes no more than
    the whole of it, unless it has already.
    """
    in_all = {stage: spent.get(stage, 0.0) + left.get(stage, 0.0) for stage in {**spent, **left}}
    return {stage: min(hours, max(spent.get(stage, 0.0), whole.get(stage, hours))) for stage, hours in in_all.items()}


def _hours(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """By stage, where they are known."""
    return {row["stage"]: row["gpu_hours"] for row in rows if row["gpu_hours"] is not None}


def _left(store: Store, asked: Asked, history: History) -> list[Work]:
    """What is not done yet, by the notes of its tasks."""

    def is_done(task: str) -> bool:
        return store.exists(f"{asked.notes}{task}.json")

    to_train = [trial for trial in asked.trials if not is_done(f"train-{trial['name']}")]
    to_judge = [trial for trial in asked.trials if not is_done(f"evaluate-{trial['name']}")]
    training = training_work(asked.settings, to_train, to_judge) if asked.trials else []
    if not asked.shards:
        return training
    done = [Work(stage, 0, "images") for stage in ("annotate", "score") if is_done(stage)]
    if len(done) == 2:
        return [*done, *training]
    data = work_of_stages(asked.shards, -1, store, asked.settings, [], history)[:2]
    data = [dataclasses.replace(work, about=NO_POOL) if work.amount is None else work for work in data]
    return [*(Work(w.stage, 0, w.unit) if is_done(w.stage) else w for w in data), *training]


def _from_the_start(left: Sequence[Work], asked: Asked) -> list[Work]:
    """The same stages with all that there is to do in them."""
    data = [work for work in left if work.stage not in ("train", "evaluate")]
    whole = [
        work if work.amount is None else dataclasses.replace(work, amount=work.amount + work.done) for work in data
    ]
    return [*whole, *(training_work(asked.settings, asked.trials, asked.trials) if asked.trials else [])]


def _basis(rows: Sequence[Mapping[str, Any]], rest: Mapping[str, float]) -> str:
    """`annotate 40.1 (a pilot, 200 images); train unknown (...)`."""
    hours = ["unknown" if row["gpu_hours"] is None else f"{rest[row['stage']]:.4g}" for row in rows]
    whys = [row["basis"].removeprefix("unknown: ") for row in rows]
    return "; ".join(f"{row['stage']} {known} ({why})" for row, known, why in zip(rows, hours, whys, strict=True))
