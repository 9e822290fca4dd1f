"""A model and a suite in, one evaluation out: how often the model is right, by benchmark, metric and kind of item.

Under torchrun every rank embeds its share and rank 0 alone reads and writes results; they are those of one rank.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from hqclip import log
from hqclip.clip import ExportedClip
from hqclip.config import EvaluateConfig
from hqclip.data.outcomes import joined, write_outcomes
from hqclip.errors import ConflictError
from hqclip.evaluate import datacomp
from hqclip.evaluate.benchmarks import KINDS, MAIN, SAME_TEXT
from hqclip.evaluate.examples import write_examples
from hqclip.evaluate.importing.folders import find_suite
from hqclip.evaluate.judging import JudgedSet, judge_sets, uids_of
from hqclip.evaluate.suite import Suite, choose, limited, read_suite
from hqclip.gpu import gpu_work, meter_of
from hqclip.provenance import made_by
from hqclip.ranks import Ranks, process_group
from hqclip.records import Evaluation, canonical_json
from hqclip.store import Store, open_store
from hqclip.store.documents import write_manifest


def run(config: EvaluateConfig) -> dict[str, Any]:
    """Write the evaluation of `config.model` on `config.suite`, unless it is there already.

    The result, and the kind of error if there is one, are the same on every rank; `work` of GPUs is told by rank 0.
    """
    start = time.monotonic()
    with process_group(config.device, nccl=False) as ranks:
        store = ranks.on_all_ranks(lambda: open_store(config.store))
        suite_uri = ranks.on_rank_zero(lambda: find_suite(store, config.suite))
        suite = ranks.on_all_ranks(lambda: _suite(suite_uri, config))
        clip = ranks.on_all_ranks(
            lambda: ExportedClip(store, config.model, config.threads, config.device, config.decode_threads)
        )
        _check_same(ranks, [clip.digest, suite.digest, str(clip.device), config.to_mapping()])
        key = _key(config, clip, suite)
        there = ranks.on_rank_zero(lambda: _there(store, key))
        if there:
            return {**there, "skipped": dict(suite.skipped), "already_done": True}
        meter = meter_of(clip.device.place, ranks.num_here) if ranks.rank == 0 else None
        judged = judge_sets(store, clip, suite, config, ranks)
        about = _about(config, clip, suite)
        done = ranks.on_rank_zero(lambda: _summary(_write(store, key, suite, judged, about), key))
        seconds = ranks.on_rank_zero(lambda: time.monotonic() - start)
        work = gpu_work(meter, seconds, len(uids_of(suite.sets)), ranks.world_size)
        return {**done, "skipped": dict(suite.skipped), "already_done": False, "seconds": seconds, **work}


def _suite(uri: str, config: EvaluateConfig) -> Suite:
    suite = read_suite(uri)
    if config.sets:
        suite = choose(suite, config.sets, skip_missing=config.skip_missing)
    return limited(suite, config.limit) if config.limit else suite


def _check_same(ranks: Ranks, about: list[Any]) -> None:
    """Raises `ConflictError` on all ranks if they would not do the same."""
    if any(other != about for other in ranks.group.gather(about)):
        raise ConflictError(
            "the ranks were given other settings than each other, or see another model, suite or kind of device; "
            "start all of them again, alike"
        )


def _key(config: EvaluateConfig, clip: ExportedClip, suite: Suite) -> str:
    if config.limit:  # a key that nothing takes for that of a whole evaluation
        return f"evaluations/{clip.digest}/{suite.digest}.first-{config.limit}.json"
    return f"evaluations/{clip.digest}/{suite.digest}.json"


def _there(store: Store, key: str) -> dict[str, Any] | None:
    """What is told of an evaluation that was made before."""
    return _summary(Evaluation.from_json(store.read(key), key), key) if store.exists(key) else None


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
    answers = joined(one.outcomes for one in judged)
    outcomes = write_outcomes(store, key.removesuffix(".json") + ".outcomes.parquet", answers)
    confusion = canonical_json({one.score.name: one.confusion for one in judged if one.confusion})
    store.write(_confusion_key(key), confusion, create_only=False)  # for people, as the examples
    evaluation = Evaluation(
        benchmarks=tuple(one.score for one in judged),
        average=float(np.mean([one.score.metrics[MAIN] for one in judged])),
        outcomes=outcomes.key,
        outcomes_crc32c=outcomes.crc32c,
        **about,
    )
    write_examples(store, evaluation.examples, suite, {one.score.name: one.examples for one in judged})
    write_manifest(store, key, evaluation)
    return evaluation


def _summary(evaluation: Evaluation, key: str) -> dict[str, Any]:
    unread = _tell_same_texts(evaluation)
    metrics = {f"{b.name}_{metric}": value for b in evaluation.benchmarks for metric, value in b.metrics.items()}
    metrics |= datacomp.values(evaluation.benchmarks)
    return {
        "evaluation": key,
        "model_digest": evaluation.model_digest,
        "average": evaluation.average,
        "device": evaluation.device,
        "reason": f"{evaluation.model} has an average of {evaluation.average:.1%} on {_what(evaluation)}{unread}",
        "metrics": metrics,
        "confusion": _confusion_key(key),
    }


def _tell_same_texts(evaluation: Evaluation) -> str:
    """Say what the model cannot answer: a warning where that is more than published sets have of themselves.

    Such sets are named once more in what is returned, the end of a sentence.
    """
    names = []
    for one in evaluation.benchmarks:
        share, kind = one.metrics.get(SAME_TEXT, 0), KINDS[one.kind]
        told = (
            f"{one.name}: of its {kind.ASKED} {share:.2%} are one text with what they are to be told from to the "
            f"tokenizer of {evaluation.model}, which may drop capitals, blanks and what is beyond its context "
            "length; such ties count against the model"
        )
        if share > kind.ALIKE:
            advice = "mend the set, leave it out (--sets), or judge a model that reads all of it"
            log.warning("evaluate", f"{told}; {advice}")
            names.append(one.name)
        elif share:
            log.info("evaluate", told)
    *others, last = names or [""]
    all_names = f"{', '.join(others)} and {last}" if others else last
    return f"; its tokenizer cannot tell apart what {all_names} ask{'' if others else 's'}" if last else ""


def _confusion_key(key: str) -> str:
    return key.replace(".json", ".confusion.json")


def _what(evaluation: Evaluation) -> str:
    return f"{evaluation.limit} items of each set of {evaluation.suite}" if evaluation.limit else evaluation.suite
