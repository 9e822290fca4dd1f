"""Right and given answers in, a table of which classes are taken for which out: small enough to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

SHOWN = 20  # classes
OTHERS = "others"


def confusion(classes: Sequence[str], labels: Sequence[int], answers: Sequence[int]) -> dict[str, Any]:
    """`classes` and `matrix[i][j]`: how often an image of class i was taken for class j.

    With more than `SHOWN` classes those that were mistaken most, as truth or as answer, and the rest together.
    """
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels), np.asarray(answers)), 1)
    if len(classes) <= SHOWN:
        return {"classes": list(classes), "matrix": counts.tolist()}
    wrong = counts.sum(0) + counts.sum(1) - 2 * np.diag(counts)
    shown = np.sort(np.argsort(-wrong, kind="stable")[: SHOWN - 1])
    place = np.full(len(classes), SHOWN - 1)
    place[shown] = np.arange(SHOWN - 1)
    small = np.zeros((SHOWN, SHOWN), dtype=np.int64)
    np.add.at(small, (place[np.asarray(labels)], place[np.asarray(answers)]), 1)
    return {"classes": [*(classes[number] for number in shown), OTHERS], "matrix": small.tolist()}
