"""What a model got right, item by item, and how sure a difference between two models is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from hqclip.data.parquet import parse_table, to_bytes
from hqclip.data.rules import SUMS, TOLD, Rule
from hqclip.data.scoring import Array, by_group, redrawn, score
from hqclip.errors import ConflictError, DataError
from hqclip.store import ObjectInfo, Store

COLUMNS = ("metric", "group", "value")
ENDING = ".outcomes.parquet"
RULE = "rule"  # a fourth column where a metric has another than `Rule.GROUPS`


@dataclass(frozen=True)
class Outcomes:
    """Metrics made of items: `values[metric]` holds a number for every item, 0 or 1 for most metrics; `groups` says
    which kind it is; `rules` how the score is made, by default as the mean over groups of the mean within each, so that
    groups count alike.
    """

    values: dict[str, Array]
    groups: dict[str, np.ndarray[Any, Any]]
    rules: dict[str, Rule] = field(default_factory=dict)

    def rule(self, metric: str) -> Rule:
        """How its score is made."""
        return self.rules.get(metric, Rule.GROUPS)

    def score(self, metric: str) -> float:
        """0 to 1."""
        return score(self.rule(metric), self.values[metric], self.groups[metric])

    def by_group(self, metric: str) -> dict[str, float]:
        """The mean within each group, of a metric whose groups are told; else nothing."""
        if self.rule(metric) not in TOLD:
            return {}
        return {name: float(part.mean()) for name, part in by_group(self.values[metric], self.groups[metric]).items()}


def joined(parts: Iterable[Outcomes]) -> Outcomes:
    """All metrics of several; their names differ."""
    every = Outcomes({}, {})
    for part in parts:
        every.values.update(part.values)
        every.groups.update(part.groups)
        every.rules.update(part.rules)
    return every


Benchmarks = Sequence[Sequence[str]]  # for each benchmark the metrics whose mean is its main one


def average(outcomes: Outcomes, benchmarks: Benchmarks) -> float:
    """The mean over benchmarks of the mean over their metrics, 0 to 1."""
    return float(np.mean([np.mean([outcomes.score(metric) for metric in metrics]) for metrics in benchmarks]))


def interval(
    outcomes: Outcomes, benchmarks: Benchmarks, resamples: int, baseline: Outcomes | None = None
) -> tuple[float, float]:
    """95 % bootstrap interval of the `average` of the benchmarks, or of its difference to `baseline`'s.

    Items are drawn again with replacement within each group; the metrics of a benchmark share the draws, and with a
    baseline both models do (paired). The draws are seeded, so the interval is reproducible.
    """
    rng = np.random.default_rng(0)
    scores = np.zeros(resamples)
    for metrics in benchmarks:
        rule, groups = outcomes.rule(metrics[0]), outcomes.groups[metrics[0]]
        if rule in SUMS:  # that of a difference is the difference
            models = [(1, [outcomes.values[m] - (baseline.values[m] if baseline else 0.0) for m in metrics])]
        else:
            models = [(1, [outcomes.values[m] for m in metrics])]
            models += [(-1, [baseline.values[m] for m in metrics])] if baseline else []
        before = deepcopy(rng)
        for sign, values in models:
            rng = deepcopy(before)
            for part in redrawn(rule, by_group(np.mean(values, axis=0), groups), resamples, rng):
                scores += sign * part / len(benchmarks)
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def write_outcomes(store: Store, key: str, outcomes: Outcomes) -> ObjectInfo:
    """One row an item and metric, as Parquet; where it lies, with its crc32c, as the evaluation names it.

    Where other outcomes lie, of a try that was cut short or of who judges at the same time, it is beside them, under a
    name with its crc32c: whichever evaluation is there names its own.
    """
    metrics = sorted(outcomes.values)
    lengths = [len(outcomes.values[m]) for m in metrics]
    value = np.concatenate([outcomes.values[m] for m in metrics])
    exact = bool((value.astype(np.float32) == value).all())
    columns = {
        "metric": pa.array(np.repeat(metrics, lengths), pa.string()),
        "group": pa.array([str(g) for m in metrics for g in outcomes.groups[m]], pa.string()),
        "value": pa.array(value, pa.float32() if exact else pa.float64()),
    }
    if outcomes.rules:
        columns[RULE] = pa.array(np.repeat([str(outcomes.rule(m)) for m in metrics], lengths), pa.string())
    data = to_bytes(pa.table(columns))
    try:
        return store.write(key, data)
    except ConflictError:
        return store.write(f"{key.removesuffix(ENDING)}.{google_crc32c.value(data):08x}{ENDING}", data)


def read_outcomes(store: Store, key: str, crc32c: int | None = None) -> Outcomes:
    """What was right; `crc32c` is that of the file, None where the evaluation does not say (0.1).

    Raises `NotFoundError`, and `DataError` if the table is damaged, altered or none of outcomes.
    """
    data = store.read(key)
    if crc32c is not None and google_crc32c.value(data) != crc32c:
        raise DataError(
            f"{store.uri}/{key} is not what its evaluation names: it was damaged or altered; delete both and run "
            "`evaluate` again"
        )
    table = parse_table(data, key)
    if table.column_names not in ([*COLUMNS], [*COLUMNS, RULE]):
        raise DataError(f"{key} has the columns {', '.join(table.column_names)}; delete it and run `evaluate` again")
    metric, group = (table[name].combine_chunks().dictionary_encode() for name in COLUMNS[:2])
    names, values = np.asarray(group.dictionary.to_pylist()), table["value"].to_numpy().astype(np.float64)
    read = Outcomes({}, {})
    for number, found in enumerate(metric.dictionary.to_pylist()):
        (rows,) = np.nonzero(np.asarray(metric.indices) == number)
        read.values[found] = values[rows]
        read.groups[found] = names[np.asarray(group.indices)[rows]]
        if RULE in table.column_names and (rule := _rule(table[RULE][int(rows[0])].as_py(), key)) is not Rule.GROUPS:
            read.rules[found] = rule
    return read


def _rule(name: str, key: str) -> Rule:
    try:
        return Rule(name)
    except ValueError as error:
        raise DataError(f"{key}: {error}; upgrade hqclip, or delete it and run `evaluate` again") from error
