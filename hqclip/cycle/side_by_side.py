"""Models that were judged on one suite in, the comparison that pages and tables show out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hqclip.cycle.paired import PairedComparison, PairedRow, Triple
from hqclip.records import Evaluation
from hqclip.report import Comparison, Difference, Group, Model, Row, Score

ABOUT = {"raw": "alt-text only", "mixed": "LVLM texts mixed with alt-text", "hqclip": "mixed, with negatives and tags"}
NAMES = {
    "acc1": "top-1 accuracy",
    "accuracy": "accuracy",
    "image_to_text_r1": "image to text, R@1",
    "image_to_text_r5": "image to text, R@5",
    "text_to_image_r1": "text to image, R@1",
    "text_to_image_r5": "text to image, R@5",
}


def side_by_side(paired: PairedComparison) -> Comparison:
    """Models by name, metric by metric, with differences to the first."""
    groups: dict[str, list[Row]] = {}
    for row in paired.rows:
        groups.setdefault(row.kind, []).append(_row(row))
    return _comparison(paired.names, groups, _scores(*paired.average))


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
        kind: [Row(NAMES.get(m, m), name, tuple(scores), items[name]) for (name, m), scores in of_kind.items()]
        for kind, of_kind in found.items()
    }
    return _comparison(list(judged), groups, tuple(Score(evaluation.average) for evaluation in judged.values()))


def _comparison(names: Sequence[str], groups: Mapping[str, Sequence[Row]], averages: tuple[Score, ...]) -> Comparison:
    models = tuple(Model(name, ABOUT.get(name, "")) for name in names)
    average = Row("average", "of the benchmarks' main metrics", averages)
    return Comparison(models, average, tuple(Group(kind, tuple(rows)) for kind, rows in groups.items()), names[0])


def _row(row: PairedRow) -> Row:
    name = NAMES.get(row.metric, row.metric)
    title, detail = (row.group, name) if row.group else (name, row.benchmark)
    return Row(title, detail, _scores(row.values, row.differences), row.items)


def _scores(values: Sequence[float], differences: Sequence[Triple | None]) -> tuple[Score, ...]:
    return tuple(
        Score(value, Difference(*difference) if difference else None)
        for value, difference in zip(values, differences, strict=True)
    )
