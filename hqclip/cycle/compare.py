"""Models by what people call them in; metric by metric what each scores out, and a page if one is wanted.

Differences are to the first, with 95 % bootstrap intervals where the store has what each model got right, item by item.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hqclip import __version__
from hqclip.cycle.answers import last_answers
from hqclip.cycle.config import CompareModelsConfig
from hqclip.cycle.paired import PairedComparison, Triple
from hqclip.cycle.references import find_all
from hqclip.cycle.side_by_side import scores_alone, side_by_side
from hqclip.records import Evaluation
from hqclip.report import Answers, Comparison, Provenance, Report
from hqclip.report.page import render
from hqclip.report.text import text_table
from hqclip.store import open_store


def run(config: CompareModelsConfig) -> dict[str, Any]:
    """The comparison as rows and as a table. Raises `NotFoundError`, `ConfigError` or `DataError`."""
    store = open_store(config.store)
    judged = find_all(store, config.runs, config.suite)
    suite = next(iter(judged.values())).suite_digest
    has_outcomes = all(store.exists(evaluation.outcomes) for evaluation in judged.values())
    if has_outcomes:
        paired = PairedComparison.read(store, judged)
        comparison, metrics = side_by_side(paired), list(_paired_cells(paired))
    else:
        paired = None
        comparison, metrics = scores_alone(judged), list(_cells(judged))
    if config.html:
        Path(config.html).parent.mkdir(parents=True, exist_ok=True)
        Path(config.html).write_text(
            _page(config, comparison, judged, last_answers(store, judged, paired)), encoding="utf-8"
        )
    return {
        "suite": suite,
        "has_intervals": has_outcomes,
        "metrics": metrics,
        "table": text_table(comparison),
        "page": config.html,
    }


def _paired_cells(paired: PairedComparison) -> Iterator[dict[str, Any]]:
    """One for each metric and run."""
    for row in paired.rows:
        metric = f"{row.metric}: {row.group}" if row.group else row.metric
        for name, value, difference in zip(paired.names, row.values, row.differences, strict=True):
            yield {**_cell(row.benchmark, metric, name, value, difference), "items": row.items}
    for name, value, difference in zip(paired.names, *paired.average, strict=True):
        yield _cell("average", "average", name, value, difference)


def _cells(judged: Mapping[str, Evaluation]) -> Iterator[dict[str, Any]]:
    """The same of scores alone; what is not known is null."""
    for name, evaluation in judged.items():
        for benchmark in evaluation.benchmarks:
            for metric, value in benchmark.metrics.items():
                yield _cell(benchmark.name, metric, name, value)
        yield _cell("average", "average", name, evaluation.average)


def _cell(benchmark: str, metric: str, run: str, value: float, difference: Triple | None = None) -> dict[str, Any]:
    gain, low, high = difference or (None, None, None)
    where = {"benchmark": benchmark, "metric": metric, "run": run}
    return {**where, "value": value, "difference": gain, "low": low, "high": high, "items": None}


def _page(
    config: CompareModelsConfig, comparison: Comparison, judged: Mapping[str, Evaluation], answers: Answers | None
) -> str:
    names = list(judged)
    suite = next(iter(judged.values())).suite_digest
    return render(
        Report(
            title=" against ".join(names) if len(names) < 4 else f"{len(names)} runs",
            comparison=comparison,
            answers=answers,
            run=Provenance(
                digests={"suite": suite, **{f"model {name}": e.model_digest for name, e in judged.items()}},
                code_version=__version__,
                command=f"hqclip compare --store {config.store} --runs {','.join(config.runs)} --suite {suite}",
            ),
        )
    )
