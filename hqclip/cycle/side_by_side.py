"""Models that were judged on one suite in, the comparison that pages and tables show out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hqclip.cycle.paired import PairedComparison, PairedRow, Triple
from hqclip.evaluate.benchmarks import known, metric_title
from hqclip.evaluate.datacomp import values
from hqclip.recipes import RECIPES
from hqclip.records import Evaluation
from hqclip.report import Comparison, Difference, Group, Model, Row, Score

DATACOMP = "The mean over DataComp's 38 tasks and over its groups of tasks; partial where the suite lacks some of them."


def side_by_side(paired: PairedComparison) -> Comparison:
    """Models by name, metric by metric, with differences to the first."""
    groups: dict[str, list[Row]] = {}
    names = {(row.kind, row.benchmark) for row in paired.rows}
    for row in paired.rows:
        groups.setdefault(row.kind, []).append(_row(row, [kind for kind, _ in names].count(row.kind) == 1))
    datacomp = {title: _scores(*found) for title, found in paired.datacomp.items()}
    return _comparison(paired.names, groups, _scores(*paired.average), datacomp)


def scores_alone(judged: Mapping[str, Evaluation]) -> Comparison:
    """The same without differences, for models of which the store lacks what they got right, item by item."""
    found: dict[str, dict[tuple[str, str], list[Score | None]]] = {}
    items = {}
    for number, evaluation in enumerate(judged.values()):
        for benchmark in evaluation.benchmarks:
            items[benchmark.name] = benchmark.items
            of_kind = found.setdefault(benchmark.kind, {})
            for metric, value in benchmark.metrics.items():
                of_kind.setdefault((benchmark.name, metric), [None] * len(judged))[number] = Score(value)
    groups = {
        kind: [Row(metric_title(m, kind), name, tuple(scores), items[name]) for (name, m), scores in of_kind.items()]
        for kind, of_kind in found.items()
    }
    averages = tuple(Score(evaluation.average) for evaluation in judged.values())
    datacomp = [values(evaluation.benchmarks) for evaluation in judged.values()]
    titles = {title: tuple(Score(one[title]) if title in one else None for one in datacomp) for title in datacomp[0]}
    return _comparison(list(judged), groups, averages, titles)


def _comparison(
    names: Sequence[str],
    groups: Mapping[str, Sequence[Row]],
    averages: tuple[Score, ...],
    datacomp: Mapping[str, tuple[Score | None, ...]],
) -> Comparison:
    models = tuple(Model(name, RECIPES[name].about if name in RECIPES else "") for name in names)
    average = Row("average", "of the benchmarks' main metrics", averages)
    parts = [group_of(kind, rows) for kind, rows in groups.items()]
    if datacomp:
        rows = tuple(Row(title, "of main metrics", scores) for title, scores in datacomp.items())
        parts.append(Group("datacomp", rows, "DataComp", DATACOMP))
    return Comparison(models, average, tuple(parts), names[0])


def group_of(kind: str, rows: Iterable[Row]) -> Group:
    """The rows of all benchmarks of one kind, under its title."""
    return Group(kind, tuple(rows), known(kind).TITLE, known(kind).MEANING)


def _row(row: PairedRow, is_alone: bool) -> Row:
    """A line of the page; it names its benchmark where there are several of the kind."""
    name = metric_title(row.metric, row.kind)
    title, detail = (row.group, name) if row.group else (name, row.benchmark)
    if row.group and not is_alone:
        detail = f"{name}, {row.benchmark}"
    return Row(title, detail, _scores(row.values, row.differences), row.items)


def _scores(values: Sequence[float], differences: Sequence[Triple | None]) -> tuple[Score, ...]:
    return tuple(
        Score(value, Difference(*difference) if difference else None)
        for value, difference in zip(values, differences, strict=True)
    )
