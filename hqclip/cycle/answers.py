"""Evaluations in, what the last of them answered out, for a page: examples as `evaluate` kept them, and what moved.

An evaluation of an older version has no examples, and the page then says nothing of them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, TypedDict

import numpy as np

from hqclip import log
from hqclip.cycle.paired import PairedComparison
from hqclip.data.rules import Rule
from hqclip.evaluate.benchmarks import main_metrics, metric_title
from hqclip.records import Evaluation
from hqclip.report import Answers, ClassScore, Failure, Moved, Query, SetExamples
from hqclip.store import Store
from hqclip.store.documents import read_json_or_warn


class _Example(TypedDict, total=False):
    """A question with its answers; pictures are uids."""

    group: str
    query: str
    rank: int
    top: list[str]
    right: str
    image: str
    true: str
    false: str
    images: tuple[str, str]
    captions: tuple[str, str]


class _Set(TypedDict, total=False):
    kind: str
    items: int
    wrong: int
    classes: list[tuple[str, int, int]]
    examples: list[_Example]


class _Kept(TypedDict, total=False):
    """What `evaluate` kept to be looked at."""

    sets: dict[str, _Set]
    pictures: dict[str, str]


def last_answers(store: Store, judged: Mapping[str, Evaluation], paired: PairedComparison | None) -> Answers | None:
    """Of the last model, against the first if there are several; None if nothing was kept of it.

    `paired` is what they got right, item by item, if the store has it.
    """
    names = list(judged)
    model, baseline = names[-1], names[0] if len(names) > 1 else ""
    before = _read(store, judged[baseline]) if baseline else {}
    found = _read(store, judged[model])
    try:
        sets = tuple(_set(name, one, found, before) for name, one in found.get("sets", {}).items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("report", f"{store.uri}/{judged[model].examples} is damaged ({error!r}); it is left out")
        sets = ()
    moved = tuple(_moved(paired)) if paired and baseline else ()
    return Answers(model, sets, moved, baseline) if sets or moved else None


def _read(store: Store, evaluation: Evaluation) -> dict[str, Any]:
    key = evaluation.examples
    return (read_json_or_warn(store, key, "report", _Kept) or {}) if store.exists(key) else {}


def _set(name: str, one: Mapping[str, Any], found: Mapping[str, Any], before: Mapping[str, Any]) -> SetExamples:
    pictures = found.get("pictures", {})

    def shown(uid: str) -> bytes:
        return base64.b64decode(pictures.get(uid, ""))

    counted = before.get("sets", {}).get(name, {}).get("classes", [])
    known = {number: found for number, (_, _, found) in enumerate(counted)}
    classes = one.get("classes", [])
    examples = one.get("examples", [])
    return SetExamples(
        name=name,
        kind=one["kind"],
        classes=tuple(
            ClassScore(text, images, right, known.get(number)) for number, (text, images, right) in enumerate(classes)
        ),
        queries=tuple(_query(each, shown) for each in examples if "query" in each),
        failures=tuple(_failure(each, shown) for each in examples if "query" not in each),
        items=one.get("items"),
        wrong=one.get("wrong"),
    )


def _query(example: Mapping[str, Any], shown: Any) -> Query:
    top, own = example["top"], example["right"]
    place = top.index(own) if own in top else None
    return Query(example["query"], tuple(map(shown, top)), shown(own), example["rank"], place)


def _failure(example: Mapping[str, Any], shown: Any) -> Failure:
    if "image" in example:
        return Failure(example["group"], (shown(example["image"]),), (example["true"], example["false"]))
    return Failure(example["group"], tuple(map(shown, example["images"])), tuple(example["captions"]))


def _moved(paired: PairedComparison) -> Iterator[Moved]:
    """The main metrics of all benchmarks whose items are right or wrong."""
    before, after = paired.outcomes[0], paired.outcomes[-1]
    for benchmark in paired.evaluations[0].benchmarks:
        for name in main_metrics(benchmark.name, benchmark.kind, benchmark.main):
            if after.rule(name) is not Rule.F1:
                lead = after.values[name] - before.values[name]
                gained, lost = int(np.sum(lead > 0)), int(np.sum(lead < 0))
                title = metric_title(name.partition("/")[2], benchmark.kind)
                yield Moved(benchmark.name, title, len(lead), gained, lost)
