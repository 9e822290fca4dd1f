"""The kinds of benchmarks, one file each. Without torch: what is measured is known before and after it is measured."""

from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval

KINDS: dict[str, type[Benchmark]] = {kind.KIND: kind for kind in (Classification, Retrieval, Choice)}


def main_metrics(name: str, kind: str) -> list[str]:
    """The outcomes whose mean is the main metric of a benchmark."""
    return [f"{name}/{metric}" for metric in KINDS[kind].MAIN]


def metric_title(metric: str, kind: str) -> str:
    """What reports call a metric; figures and groups stand as named."""
    return KINDS[kind].METRICS.get(metric, metric)
