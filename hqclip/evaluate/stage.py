"""A model and a suite in, one evaluation out: how often the model is right, by benchmark, metric and kind of item."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.outcomes import joined, write_outcomes
from hqclip.evaluate import datacomp
from hqclip.evaluate.benchmarks import MAIN
from hqclip.evaluate.examples import write_examples
from hqclip.evaluate.importing.folders import find_suite
from hqclip.evaluate.judging import JudgedSet, judge_sets, uids_of
from hqclip.evaluate.suite import Suite, choose, limited, read_suite
from hqclip.gpu import gpu_work, meter_of
from hqclip.provenance import made_by
from hqclip.records import Evaluation, canonical_json
from hqclip.store import Store, open_store
from hqclip.store.documents import write_manifest


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Write the evaluation of `config.model` on `config.suite`, unless it is there already."""
    start = time.monotonic()
    store = open_store(config.store)
    suite = _suite(store, config)
    clip = ExportedClip(store, config.model, config.threads, config.device, config.decode_threads)
    key = f"evaluations/{clip.digest}/{suite.digest}.json"
    if config.limit:  # a key that nothing takes for that of a whole evaluation
        key = f"evaluations/{clip.digest}/{suite.digest}.first-{config.limit}.json"
    if store.exists(key):
        there = Evaluation.from_json(store.read(key), key)
        return {**_summary(there, key), "skipped": dict(suite.skipped), "already_done": True}
    meter = meter_of(clip.device.place)
    evaluation = _write(store, key, suite, judge_sets(store, clip, suite, config), _about(config, clip, suite))
    seconds = time.monotonic() - start
    done = {"skipped": dict(suite.skipped), "already_done": False, "seconds": seconds}
    return {**_summary(evaluation, key), **done, **gpu_work(meter, seconds, len(uids_of(suite.sets)))}


def _suite(store: Store, config: EvaluateConfig) -> Suite:
    suite = read_suite(find_suite(store, config.suite))
    if config.sets:
        suite = choose(suite, config.sets, skip_missing=config.skip_missing)
    return limited(suite, config.limit) if config.limit else suite


def _about(config: EvaluateConfig, clip: ExportedClip, suite: Suite) -> dict[str, Any]:
    """What a record says besides the results."""
    return {
        "model": config.model,
        "model_digest": clip.digest,
        "suite": suite.name,
        "suite_digest": suite.digest,
        "skipped": dict(suite.skipped) or None,
        "device": str(clip.device),
        "limit": config.limit or None,
        "provenance": made_by("evaluate", config.to_mapping(), [config.model]),
    }


def _write(store: Store, key: str, suite: Suite, judged: list[JudgedSet], about: dict[str, Any]) -> Evaluation:
    """Outcomes, confusions and examples of all sets, then the record that names them."""
    outcomes = key.removesuffix(".json") + ".outcomes.parquet"
    crc32c = write_outcomes(store, outcomes, joined(one.outcomes for one in judged))
    store.write(_confusion_key(key), canonical_json({one.score.name: one.confusion for one in judged if one.confusion}))
    evaluation = Evaluation(
        benchmarks=tuple(one.score for one in judged),
        average=float(np.mean([one.score.metrics[MAIN] for one in judged])),
        outcomes=outcomes,
        outcomes_crc32c=crc32c,
        **about,
    )
    write_examples(store, evaluation.examples, suite, {one.score.name: one.examples for one in judged})
    write_manifest(store, key, evaluation)
    return evaluation


def _summary(evaluation: Evaluation, key: str) -> dict[str, Any]:
    metrics = {f"{b.name}_{metric}": value for b in evaluation.benchmarks for metric, value in b.metrics.items()}
    metrics |= datacomp.values(evaluation.benchmarks)
    return {
        "evaluation": key,
        "model_digest": evaluation.model_digest,
        "average": evaluation.average,
        "device": evaluation.device,
        "reason": f"{evaluation.model} has an average of {evaluation.average:.1%} on {_what(evaluation)}",
        "metrics": metrics,
        "confusion": _confusion_key(key),
    }


def _confusion_key(key: str) -> str:
    return key.replace(".json", ".confusion.json")


def _what(evaluation: Evaluation) -> str:
    return f"{evaluation.limit} items of each set of {evaluation.suite}" if evaluation.limit else evaluation.suite
