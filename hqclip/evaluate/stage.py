"""A model and a suite in, one evaluation out: how often the model is right, by benchmark, metric and kind of item."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.outcomes import Outcomes, average, interval, joined, write_outcomes
from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.evaluate import datacomp
from hqclip.evaluate.benchmarks import MAIN, main_metrics, main_of
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.examples import choose_examples, write_examples
from hqclip.evaluate.importing.folders import find_suite
from hqclip.evaluate.suite import Suite, choose, read_suite, shards_of
from hqclip.records import BenchmarkScore, Evaluation, canonical_json
from hqclip.store import open_store


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Write the evaluation of `config.model` on `config.suite`, unless it is there already."""
    start = time.monotonic()
    store = open_store(config.store)
    suite = read_suite(find_suite(store, config.suite))
    if config.sets:
        suite = choose(suite, config.sets, skip_missing=config.skip_missing)
    clip = ExportedClip(store, config.model, config.threads, config.device, config.decode_threads)
    key = f"evaluations/{clip.digest}/{suite.digest}.json"
    if store.exists(key):
        there = Evaluation.from_json(store.read(key), key)
        return {**_summary(there, key), "skipped": dict(suite.skipped), "already_done": True}
    images = _embed_images(clip, suite, config.batch_size)
    scores: list[BenchmarkScore] = []
    found: list[Outcomes] = []
    confusions: dict[str, Any] = {}
    examples: dict[str, dict[str, Any]] = {}
    for benchmark in suite.benchmarks:
        measured, metrics, mistaken = measure(benchmark, clip, images)
        if mistaken:
            confusions[benchmark.name] = mistaken
        examples[benchmark.name] = choose_examples(benchmark, measured, clip, images)
        chosen = main_of(benchmark)
        main = [main_metrics(benchmark.name, benchmark.KIND, chosen)]
        metrics = {**metrics, MAIN: average(measured, main)}
        low_high = interval(measured, main, config.resamples)
        items = len(measured.values[main[0][0]])
        scores.append(BenchmarkScore(benchmark.name, benchmark.KIND, metrics, chosen, items, low_high))
        found.append(measured)
    outcomes = f"evaluations/{clip.digest}/{suite.digest}.outcomes.parquet"
    crc32c = write_outcomes(store, outcomes, joined(found))
    store.write(_confusion_key(key), canonical_json(confusions))
    evaluation = Evaluation(
        model=config.model,
        model_digest=clip.digest,
        suite=suite.name,
        suite_digest=suite.digest,
        benchmarks=tuple(scores),
        average=float(np.mean([score.metrics[MAIN] for score in scores])),
        outcomes=outcomes,
        outcomes_crc32c=crc32c,
        skipped=dict(suite.skipped) or None,
        device=str(clip.device),
    )
    write_examples(store, evaluation.examples, suite, examples)
    store.write(key, evaluation.to_json())
    done = {"skipped": dict(suite.skipped), "already_done": False, "seconds": time.monotonic() - start}
    return {**_summary(evaluation, key), **done}


def _summary(evaluation: Evaluation, key: str) -> dict[str, Any]:
    metrics = {f"{b.name}_{metric}": value for b in evaluation.benchmarks for metric, value in b.metrics.items()}
    metrics |= datacomp.values(evaluation.benchmarks)
    return {
        "evaluation": key,
        "model_digest": evaluation.model_digest,
        "average": evaluation.average,
        "device": evaluation.device,
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
        if metric in measured.rules:
            outcomes.rules[name] = measured.rules[metric]
        outcomes.values[name] = values
        outcomes.groups[name] = np.full(len(values), "all") if groups is None else np.asarray(groups)
        metrics[metric] = outcomes.score(name)
        if groups is not None:
            metrics |= {f"{metric} {group}": value for group, value in outcomes.by_group(name).items()}
    return Judged(outcomes, {**metrics, **measured.figures}, measured.confusion)


def _embed_images(clip: ExportedClip, suite: Suite, batch_size: int) -> dict[str, Tensor]:
    """Every image of the suite, by uid. Raises `DataError` for a damaged shard or image, or a missing one."""
    embedded: dict[str, Tensor] = {}
    for shard in shards_of(suite):
        with shard.path.open("rb") as file:
            image_ND = clip.images((partial(_picture, file, row, shard.where) for row in shard.rows), batch_size)
        embedded |= zip([row.uid for row in shard.rows], image_ND, strict=True)
    return embedded


def _picture(shard: BinaryIO, row: Row, where: str) -> Pixels:
    try:  # pread: threads share the file, but no place in it
        return decode(os.pread(shard.fileno(), row.image_size, row.image_offset))
    except ImageFault as fault:
        raise DataError(f"{where}, image {row.uid}: {fault}; mend the suite") from fault
