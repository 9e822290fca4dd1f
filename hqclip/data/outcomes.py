"""What a model got right, item by item, and how sure a difference between two models is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from hqclip.data.parquet import parse_table, to_bytes
from hqclip.errors import DataError
from hqclip.store import Store

COLUMNS = ("metric", "group", "value")
Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Outcomes:
    """Metrics as means over items: `values[metric]` holds 0 or 1 for every item, `groups` says which kind it is.

    The score of a metric is the mean over its groups of the mean within each, so that groups count alike.
    """

    values: dict[str, Array]
    groups: dict[str, np.ndarray[Any, Any]]

    def score(self, metric: str) -> float:
        """Mean over groups of the mean within the group, 0 to 1."""
        return float(np.mean(list(self.by_group(metric).values())))

    def by_group(self, metric: str) -> dict[str, float]:
        """The mean within each group."""
        groups = self.groups[metric]
        return {str(g): float(self.values[metric][groups == g].mean()) for g in sorted(set(groups.tolist()))}


Benchmarks = Sequence[Sequence[str]]  # for each benchmark the metrics whose mean is its main one


def average(outcomes: Outcomes, benchmarks: Benchmarks) -> float:
    """The mean over benchmarks of the mean over their metrics, 0 to 1."""
    return float(np.mean([np.mean([outcomes.score(metric) for metric in metrics]) for metrics in benchmarks]))


def interval(
    outcomes: Outcomes, benchmarks: Benchmarks, resamples: int, baseline: Outcomes | None = None
) -> tuple[float, float]:
    """95 % bootstrap interval of the `average` of the benchmarks, or of its difference to `baseline`'s.

    Items are drawn again with replacement within each group; the metrics of a benchmark share the draws, and with a
    baseline both models do (paired). The draws are seeded, so the interval is reproducible. Source: Efron and
    Tibshirani, 1993.
    """
    rng = np.random.default_rng(0)
    scores = np.zeros(resamples)
    for metrics in benchmarks:
        values = np.mean([outcomes.values[m] - (baseline.values[m] if baseline else 0.0) for m in metrics], axis=0)
        groups = outcomes.groups[metrics[0]]
        names = sorted(set(groups.tolist()))
        for name in names:
            members = values[groups == name]
            for resample in range(resamples):
                drawn = members[rng.integers(0, len(members), len(members))]
                scores[resample] += drawn.mean() / len(names) / len(benchmarks)
    low, high = np.quantile(scores, [0.025, 0.975])
    return float(low), float(high)


def write_outcomes(store: Store, key: str, outcomes: Outcomes) -> int:
    """One row an item and metric, as Parquet; the crc32c of the file, which the evaluation names."""
    metrics = sorted(outcomes.values)
    table = pa.table(
        {
            "metric": pa.array([m for m in metrics for _ in outcomes.values[m]], pa.string()),
            "group": pa.array([str(g) for m in metrics for g in outcomes.groups[m]], pa.string()),
            "value": pa.array(np.concatenate([outcomes.values[m] for m in metrics]), pa.float32()),
        }
    )
    return store.write(key, to_bytes(table)).crc32c


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
    if table.column_names != list(COLUMNS):
        raise DataError(f"{key} has the columns {', '.join(table.column_names)}; delete it and run `evaluate` again")
    metric = np.asarray(table["metric"].to_pylist())
    group = np.asarray(table["group"].to_pylist())
    value = np.asarray(table["value"].to_pylist(), dtype=np.float64)
    names = sorted(set(metric.tolist()))
    return Outcomes({m: value[metric == m] for m in names}, {m: group[metric == m] for m in names})
