"""A suite and a model in, how the model does on every set out: set by set, so that what was done need not be again.

The largest set comes first. What a set gave is written when it is done, by a key that says what it depends on; a run
that is killed goes on with the next set, and an evaluation on another suite finds the sets that both have. Sets that
share shards are judged together: their images are embedded once, and only theirs are in memory.

Ranks share the embedding. What comes after is arithmetic on all embeddings, which rank 0 does as if it were alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hqclip import __version__
from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.outcomes import Outcomes, average, interval, read_outcomes, write_outcomes
from hqclip.errors import NotFoundError
from hqclip.evaluate.benchmarks import MAIN, SAME_TEXT, main_metrics, main_of
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.classifiers import embed_texts
from hqclip.evaluate.examples import choose_examples
from hqclip.evaluate.pictures import embed_images
from hqclip.evaluate.suite import Suite, SuiteSet
from hqclip.progress import Progress
from hqclip.ranks import Ranks
from hqclip.records import BenchmarkScore, Manifest, digest_of
from hqclip.store import Store


@dataclass(frozen=True, kw_only=True)
class SetRecord(Manifest):
    """`evaluations/{model_digest}/sets/{digest}.json`: what one set gave, of which evaluations are made."""

    KIND = "evaluated-set"
    score: BenchmarkScore
    outcomes: str
    outcomes_crc32c: int
    confusion: dict[str, Any] | None
    examples: dict[str, Any]


class JudgedSet(NamedTuple):
    """How the model did on one set."""

    score: BenchmarkScore
    outcomes: Outcomes
    confusion: dict[str, Any] | None
    examples: dict[str, Any]


def judge_sets(store: Store, clip: ExportedClip, suite: Suite, config: EvaluateConfig, ranks: Ranks) -> list[JudgedSet]:
    """Of every set, in the order of the suite; nothing on other ranks than 0.

    Raises `DataError` for damaged data, of the suite or kept before.
    """
    keys = {one.benchmark.name: _key(clip, one, config) for one in suite.sets}
    found: dict[str, JudgedSet] = {}

    def look() -> list[str]:
        found.update({name: judged for name, key in keys.items() if (judged := _read(store, key))})
        return list(found)

    def judge(benchmark: Benchmark, images: Mapping[str, Tensor], texts: Mapping[str, Tensor]) -> None:
        found[benchmark.name] = _judge(clip, benchmark, images, texts, config.resamples)
        _write(store, keys[benchmark.name], found[benchmark.name])

    there = ranks.on_rank_zero(look)
    groups = [(part, [one for one in part.sets if one.benchmark.name not in there]) for part in parts_of(suite)]
    total = sum(len(uids_of(part.sets)) for part, missing in groups if missing)
    with Progress("evaluate", total, "images") if not ranks.rank else nullcontext() as progress:
        for part, missing in groups:
            if not missing:
                continue
            only = uids_of(part.sets) if config.limit else None
            advance = progress.advance if progress else _nobody_listens
            images = embed_images(clip, part, config.batch_size, advance, only, ranks)
            for one in missing:
                texts = embed_texts(store, clip, one.benchmark, ranks)
                ranks.on_rank_zero(partial(judge, one.benchmark, images, texts))
            del images  # before those of the next sets come
    return [found[one.benchmark.name] for one in suite.sets if not ranks.rank]


def _nobody_listens(_: int) -> None: ...


def parts_of(suite: Suite) -> list[Suite]:
    """The suite in parts that have no shard in common, the one with the most images first."""
    parts: list[list[SuiteSet]] = []
    for one in suite.sets:
        shared = [part for part in parts if _shards(part) & _shards([one])]
        parts = [part for part in parts if part not in shared]
        parts.append(sorted([one, *(other for part in shared for other in part)], key=_size))
    parts.sort(key=lambda part: (-len(uids_of(part)), part[0].benchmark.name))
    return [dataclasses.replace(suite, sets=tuple(part)) for part in parts]


def _shards(part: Sequence[SuiteSet]) -> set[str]:
    return {shard.key for one in part for shard in one.shards}


def _size(one: SuiteSet) -> tuple[int, str]:
    return -len(one.benchmark.uids), one.benchmark.name


def uids_of(sets: Sequence[SuiteSet]) -> set[str]:
    """Of the images that are asked for."""
    return {uid for one in sets for uid in one.benchmark.uids}


def _key(clip: ExportedClip, one: SuiteSet, config: EvaluateConfig) -> str:
    depends_on = [one.digest, str(clip.device), config.batch_size, config.resamples, config.limit, __version__]
    return f"evaluations/{clip.digest}/sets/{digest_of(depends_on)}.json"


def _read(store: Store, key: str) -> JudgedSet | None:
    try:
        record = SetRecord.from_json(store.read(key), key)
    except NotFoundError:
        return None
    outcomes = read_outcomes(store, record.outcomes, record.outcomes_crc32c)
    return JudgedSet(record.score, outcomes, record.confusion, record.examples)


def _write(store: Store, key: str, judged: JudgedSet) -> None:
    """The record comes last: what it names is there."""
    outcomes = write_outcomes(store, key.replace(".json", ".outcomes.parquet"), judged.outcomes)
    record = SetRecord(
        score=judged.score,
        outcomes=outcomes.key,
        outcomes_crc32c=outcomes.crc32c,
        confusion=judged.confusion,
        examples=judged.examples,
    )
    store.write(key, record.to_json())


def _judge(
    clip: ExportedClip, benchmark: Benchmark, images: Mapping[str, Tensor], texts: Mapping[str, Tensor], resamples: int
) -> JudgedSet:
    measured, metrics, confusion = measure(benchmark, images, texts)
    chosen = main_of(benchmark)
    main = [main_metrics(benchmark.name, benchmark.KIND, chosen)]
    metrics = {**metrics, MAIN: average(measured, main), **_same_texts(clip, benchmark)}
    low_high = interval(measured, main, resamples)
    items = len(measured.values[main[0][0]])
    score = BenchmarkScore(benchmark.name, benchmark.KIND, metrics, chosen, items, low_high)
    return JudgedSet(score, measured, confusion, choose_examples(benchmark, measured, clip, images))


def _same_texts(clip: ExportedClip, benchmark: Benchmark) -> dict[str, float]:
    """The share of what is asked that this model cannot answer, since it reads the texts in question as one."""
    asked = benchmark.one_text(clip.readings)
    return {SAME_TEXT: sum(map(bool, asked)) / len(asked)} if any(asked) else {}


class Judged(NamedTuple):
    """What was right, item by item; every metric as a share, of all items and of each group; what was mistaken."""

    outcomes: Outcomes
    metrics: dict[str, float]
    confusion: dict[str, Any] | None


def measure(benchmark: Benchmark, images: Mapping[str, Tensor], texts: Mapping[str, Tensor]) -> Judged:
    """How a model does on a benchmark, with the embeddings of at least its images, and of its texts by column."""
    image_ND = torch.stack([images[uid] for uid in benchmark.uids])
    measured = benchmark.measure(image_ND, texts)
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
