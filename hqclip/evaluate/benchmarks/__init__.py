"""The kinds of benchmarks, one file each. Without torch: what is measured is known before and after it is measured."""

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.association import Association
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval

KINDS: dict[str, type[Benchmark]] = {
    kind.KIND: kind for kind in (Classification, Retrieval, Choice, Matching, Association)
}
MAIN = "main"  # the metric of a record that stands for those of its kind
SAME_TEXT = "same_text"  # the metric of a record that says how much the model cannot answer, as `one_text` of its kind


def main_of(benchmark: Benchmark) -> str:
    """The one metric that is the main one of this benchmark, or `MAIN` for those of its kind."""
    return getattr(benchmark, "main", "") or MAIN


def main_metrics(name: str, kind: str, main: str = MAIN) -> list[str]:
    """The outcomes whose mean is the main metric of a benchmark; `main` as its record has it."""
    return [f"{name}/{metric}" for metric in (known(kind).MAIN if main == MAIN else [main])]


def metric_title(metric: str, kind: str) -> str:
    """What reports call a metric; figures and groups stand as named."""
    return f"{known(kind).ASKED} of one text" if metric == SAME_TEXT else known(kind).METRICS.get(metric, metric)


def known(kind: str) -> type[Benchmark]:
    """What an evaluation names as the kind of a benchmark. Raises `DataError` if this version has none such."""
    if kind not in KINDS:
        raise DataError(f"this version of hqclip has no benchmarks of the kind {kind!r}; it has {', '.join(KINDS)}")
    return KINDS[kind]
