"""Values and groups of items in, the score of a metric out, and how it varies when the items are drawn again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hqclip.data.rules import SUMS, Rule

Array = np.ndarray[Any, np.dtype[np.float64]]
DRAWN = 1 << 22  # items at a time: 32 MiB


def score(rule: Rule, values: Array, groups: Sequence[str] | np.ndarray[Any, Any]) -> float:
    """The score of items, 0 to 1."""
    parts = by_group(values, groups)
    if rule is Rule.F1:
        return float(_f1({name: [places[None]] for name, places in _answers(parts).items()})[0])
    means = [float(part.mean()) for part in parts.values()]
    return float(np.min(means) if rule is Rule.WORST else np.mean(means))


def by_group(values: Array, groups: Sequence[str] | np.ndarray[Any, Any]) -> dict[str, Array]:
    """The values of each group, in their order."""
    names, numbers = np.unique(np.asarray(groups), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    parts = np.split(values[order], np.cumsum(np.bincount(numbers))[:-1])
    return dict(zip(map(str, names.tolist()), parts, strict=True))


def redrawn(rule: Rule, groups: Mapping[str, Array], resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """Scores of items drawn again, with replacement within their group: arrays (resamples) of which it is the sum.

    Source: Efron and Tibshirani, 1993.
    """
    if rule in SUMS:
        for members in groups.values():
            yield _means(members, resamples, rng) / len(groups)
    elif rule is Rule.WORST:
        yield np.min([_means(members, resamples, rng) for members in groups.values()], axis=0)
    else:
        yield _f1({name: _drawn(places, resamples, rng) for name, places in _answers(groups).items()})


def _means(members: Array, resamples: int, rng: np.random.Generator) -> Array:
    return np.concatenate([drawn.mean(1) for drawn in _drawn(members, resamples, rng)])


def _drawn(members: Array, resamples: int, rng: np.random.Generator) -> Iterator[Array]:
    """(some resamples, members) values; all resamples together."""
    rows = max(1, DRAWN // len(members))
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(members))
        yield members[rng.integers(0, len(members), shape)]


def _answers(groups: Mapping[str, Array]) -> dict[str, Array]:
    """For the items of each class the place of the class answered, one past the last for a class that none is of."""
    places = {int(name): place for place, name in enumerate(groups)}
    return {
        name: np.asarray([places.get(int(answer), len(groups)) for answer in members])
        for name, members in groups.items()
    }


def _f1(answers: Mapping[str, Iterable[Array]]) -> Array:
    """(resamples) macro F1 over the classes that are right for some item: the mean of 2 TP / (items + answers).

    As WILDS has it. Two classes of two items, one of the first taken for the second: (2 / 3 + 4 / 5) / 2.
    """
    counts = np.stack([np.concatenate([_counts(drawn, len(answers)) for drawn in parts]) for parts in answers.values()])
    right_KR = np.diagonal(counts, axis1=0, axis2=2).T  # counts: (right class, resamples, answer)
    items_K1 = counts.sum(2)[:, :1]
    result: Array = (2 * right_KR / (items_K1 + counts[:, :, :-1].sum(0).T)).mean(0)
    return result


def _counts(places: Array, classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """(resamples, classes + 1) how often each place comes in each row."""
    rows = np.arange(len(places))[:, None] * (classes + 1)
    return np.bincount((rows + places).ravel(), minlength=len(places) * (classes + 1)).reshape(len(places), -1)
