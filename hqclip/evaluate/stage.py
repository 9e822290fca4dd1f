"""A model and a suite in, one evaluation out: how often the model is right, by benchmark, metric and kind of item."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.outcomes import Outcomes, average, interval, main_metrics, write_outcomes
from hqclip.data.shards import Row, scan_shard
from hqclip.errors import DataError
from hqclip.evaluate.confusion import confusion
from hqclip.evaluate.suite import Benchmark, Choice, Classification, Retrieval, Suite, read_suite
from hqclip.records import BenchmarkScore, Evaluation, canonical_json
from hqclip.store import open_store


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
        main = [main_metrics(benchmark.name, benchmark.kind)]
        metrics = {**metrics, "main": average(measured, main)}
        low_high = interval(measured, main, config.resamples)
        scores.append(BenchmarkScore(benchmark.name, benchmark.kind, metrics, "main", len(benchmark.uids), low_high))
        values |= measured.values
        groups |= measured.groups
    outcomes = f"evaluations/{clip.digest}/{suite.digest}.outcomes.parquet"
    write_outcomes(store, outcomes, Outcomes(values, groups))
    store.write(_confusion_key(key), canonical_json(confusions))
    evaluation = Evaluation(
        model=config.model,
        model_digest=clip.digest,
        suite=suite.name,
        suite_digest=suite.digest,
        benchmarks=tuple(scores),
        average=float(np.mean([score.metrics["main"] for score in scores])),
        outcomes=outcomes,
    )
    store.write(key, evaluation.to_json())
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


class Measured(NamedTuple):
    """What was right, item by item, the metrics in CLIP_benchmark's names where it has one, and what was mistaken."""

    outcomes: Outcomes
    metrics: dict[str, float]
    confusion: dict[str, Any] | None = None


def measure(benchmark: Benchmark, clip: ExportedClip, images: dict[str, Tensor]) -> Measured:
    """How a model does on a benchmark, with the embeddings of its images. Raises `DataError` if one is missing."""
    missing = [uid for uid in benchmark.uids if uid not in images]
    if missing:
        raise DataError(f"benchmark {benchmark.name}: {len(missing)} images are not in the suite (first: {missing[0]})")
    image_ND = torch.stack([images[uid] for uid in benchmark.uids])
    if isinstance(benchmark, Classification):
        return _classify(benchmark, clip, image_ND)
    if isinstance(benchmark, Retrieval):
        return _retrieve(benchmark, clip, image_ND)
    return _choose(benchmark, clip, image_ND)


def _classify(benchmark: Classification, clip: ExportedClip, image_ND: Tensor) -> Measured:
    """The class whose prompts, averaged over templates, are nearest (Radford et al., 2021)."""
    prompts = [template.format(name) for name in benchmark.classes for template in benchmark.templates]
    text = clip.texts(prompts).reshape(len(benchmark.classes), len(benchmark.templates), -1).mean(1)
    class_KD = torch.nn.functional.normalize(text, dim=-1)
    answer_N = (image_ND @ class_KD.T).argmax(1)
    outcomes, metrics = _one_metric(benchmark, "acc1", answer_N == torch.tensor(benchmark.labels))
    return Measured(outcomes, metrics, confusion(benchmark.classes, benchmark.labels, answer_N.tolist()))


def _retrieve(benchmark: Retrieval, clip: ExportedClip, image_ND: Tensor) -> Measured:
    """Recall at 1 and 5: how many pairs outscore the right one; a tie counts against the model."""
    text_ND = clip.texts(benchmark.captions)
    values = {}
    for direction, query, target in (("image_to_text", image_ND, text_ND), ("text_to_image", text_ND, image_ND)):
        ranks = torch.cat([_ranks(query, target, start) for start in range(0, len(query), 1024)])
        for k in (1, 5):
            values[f"{benchmark.name}/{direction}_r{k}"] = (ranks < k).double().numpy()
    group = np.full(len(image_ND), "all")
    outcomes = Outcomes(values, dict.fromkeys(values, group))
    return Measured(outcomes, {name.partition("/")[2]: outcomes.score(name) for name in values})


def _ranks(query_ND: Tensor, target_ND: Tensor, start: int) -> Tensor:
    """How many other targets score at least as high as the right one, for 1,024 queries from `start`."""
    scores = query_ND[start : start + 1024] @ target_ND.T
    right = scores[torch.arange(len(scores)), torch.arange(start, start + len(scores))]
    return (scores >= right[:, None]).sum(1) - 1


def _choose(benchmark: Choice, clip: ExportedClip, image_ND: Tensor) -> Measured:
    """Whether the true caption scores strictly higher (SugarCrepe's rule): a tie is wrong, and counted."""
    true_N = (image_ND * clip.texts(benchmark.positives)).sum(1)
    false_N = (image_ND * clip.texts(benchmark.negatives)).sum(1)
    outcomes, metrics = _one_metric(benchmark, "accuracy", true_N > false_N)
    return Measured(outcomes, {**metrics, "ties": float((true_N == false_N).double().mean())})


def _one_metric(benchmark: Classification | Choice, metric: str, right: Tensor) -> tuple[Outcomes, dict[str, float]]:
    name = f"{benchmark.name}/{metric}"
    outcomes = Outcomes({name: right.double().numpy()}, {name: np.asarray(benchmark.groups)})
    by_group = {f"{metric} {group}": value for group, value in outcomes.by_group(name).items()}
    return outcomes, {metric: outcomes.score(name), **by_group}


def _embed_images(clip: ExportedClip, suite: Suite, batch_size: int) -> dict[str, Tensor]:
    """Every image of the suite, by uid. Raises `DataError` for a damaged shard or image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "images.tar"
        suite.store.download(suite.images, path)
        scan = scan_shard(path)
        if scan.damage:
            raise DataError(f"{suite.store.uri}/{suite.images}: {scan.damage}; fetch the suite again")
        with path.open("rb") as shard:
            embedded = clip.images((_picture(shard, row, suite) for row in scan.rows), batch_size)
    return dict(zip([row.uid for row in scan.rows], embedded, strict=True))


def _picture(shard: BinaryIO, row: Row, suite: Suite) -> Pixels:
    shard.seek(row.image_offset)
    try:
        return decode(shard.read(row.image_size))
    except ImageFault as fault:
        raise DataError(f"{suite.store.uri}/{suite.images}, image {row.uid}: {fault}; mend the suite") from fault
