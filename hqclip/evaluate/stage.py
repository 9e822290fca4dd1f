"""A model and a suite in, one evaluation out: how often the model is right, by benchmark, metric and kind of item."""

from __future__ import annotations

import time
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.outcomes import Outcomes, average, interval, write_outcomes
from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks import main_metrics
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.suite import Suite, images_of, read_suite
from hqclip.provenance import made_by
from hqclip.records import BenchmarkScore, Evaluation, canonical_json
from hqclip.store import open_store
from hqclip.store.documents import write_manifest


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Write the evaluation of `config.model` on `config.suite`, unless it is there already."""
    start = time.monotonic()
    store = open_store(config.store)
    suite = read_suite(config.suite)
    clip = ExportedClip(store, config.model, config.threads)
    key = f"evaluations/{clip.digest}/{suite.digest}.json"
    if store.exists(key):
        return {**_summary(Evaluation.from_json(store.read(key), key), key), "already_done": True}
    images = _embed_images(clip, suite, config.batch_size)
    scores: list[BenchmarkScore] = []
    values: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    confusions: dict[str, Any] = {}
    for benchmark in suite.benchmarks:
        measured, metrics, mistaken = measure(benchmark, clip, images)
        if mistaken:
            confusions[benchmark.name] = mistaken
        main = [main_metrics(benchmark.name, benchmark.KIND)]
        metrics = {**metrics, "main": average(measured, main)}
        low_high = interval(measured, main, config.resamples)
        scores.append(BenchmarkScore(benchmark.name, benchmark.KIND, metrics, "main", len(benchmark.uids), low_high))
        values |= measured.values
        groups |= measured.groups
    outcomes = f"evaluations/{clip.digest}/{suite.digest}.outcomes.parquet"
    crc32c = write_outcomes(store, outcomes, Outcomes(values, groups))
    store.write(_confusion_key(key), canonical_json(confusions))
    evaluation = Evaluation(
        model=config.model,
        model_digest=clip.digest,
        suite=suite.name,
        suite_digest=suite.digest,
        benchmarks=tuple(scores),
        average=float(np.mean([score.metrics["main"] for score in scores])),
        outcomes=outcomes,
        outcomes_crc32c=crc32c,
        provenance=made_by("evaluate", config.to_mapping(), [config.model]),
    )
    write_manifest(store, key, evaluation)
    return {**_summary(evaluation, key), "already_done": False, "seconds": time.monotonic() - start}


def _summary(evaluation: Evaluation, key: str) -> dict[str, Any]:
    metrics = {f"{b.name}_{metric}": value for b in evaluation.benchmarks for metric, value in b.metrics.items()}
    return {
        "evaluation": key,
        "model_digest": evaluation.model_digest,
        "average": evaluation.average,
        "reason": f"{evaluation.model} has an average of {evaluation.average:.1%} on {evaluation.suite}",
        "metrics": metrics,
        "confusion": _confusion_key(key),
    }


def _confusion_key(key: str) -> str:
    return key.replace(".json", ".confusion.json")


class Judged(NamedTuple):
    """What was right, item by item; every metric as a share, of all items and of each group; what was mistaken."""

    outcomes: Outcomes
    metrics: dict[str, float]
    confusion: dict[str, Any] | None


def measure(benchmark: Benchmark, clip: ExportedClip, images: dict[str, Tensor]) -> Judged:
    """How a model does on a benchmark, with the embeddings of at least its images."""
    image_ND = torch.stack([images[uid] for uid in benchmark.uids])
    measured = benchmark.measure(image_ND, {column: clip.texts(texts) for column, texts in benchmark.texts().items()})
    outcomes, metrics = Outcomes({}, {}), {}
    for metric, values in measured.values.items():
        name, groups = f"{benchmark.name}/{metric}", measured.groups.get(metric)
        outcomes.values[name] = values
        outcomes.groups[name] = np.full(len(values), "all") if groups is None else np.asarray(groups)
        metrics[metric] = outcomes.score(name)
        if groups is not None:
            metrics |= {f"{metric} {group}": value for group, value in outcomes.by_group(name).items()}
    return Judged(outcomes, {**metrics, **measured.figures}, measured.confusion)


def _embed_images(clip: ExportedClip, suite: Suite, batch_size: int) -> dict[str, Tensor]:
    """Every image of the suite, by uid. Raises `DataError` for a damaged shard or image, or a missing one."""
    with images_of(suite) as (path, scan), path.open("rb") as shard:
        embedded = clip.images((_picture(shard, row, suite) for row in scan.rows), batch_size)
    return dict(zip([row.uid for row in scan.rows], embedded, strict=True))


def _picture(shard: BinaryIO, row: Row, suite: Suite) -> Pixels:
    shard.seek(row.image_offset)
    try:
        return decode(shard.read(row.image_size))
    except ImageFault as fault:
        raise DataError(f"{suite.store.uri}/{suite.images}, image {row.uid}: {fault}; mend the suite") from fault
