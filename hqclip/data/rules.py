"""How the score of a metric is made of its items, by name: what is written down beside outcomes."""

from __future__ import annotations

from enum import StrEnum


class Rule(StrEnum):
    """How a score is made of the means within groups.

    `GROUPS`: their mean, and each is told. `CLASSES`: their mean; they are too many to be told. `WORST`: the least, and
    each is told. `F1`: macro F1, the groups being the numbers of right classes, the values those of the answers.
    """

    GROUPS = "groups"
    CLASSES = "classes"
    WORST = "worst"
    F1 = "f1"


TOLD = (Rule.GROUPS, Rule.WORST)  # reports show every group
SUMS = (Rule.GROUPS, Rule.CLASSES)  # linear in the values: several metrics can be one
