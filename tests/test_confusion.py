"""Which classes a model takes for which, in a table that a person can read."""

from __future__ import annotations

from hqclip.evaluate.benchmarks.confusion import OTHERS, SHOWN, confusion


def test_rows_are_what_it_was_and_columns_what_was_said() -> None:
    told = confusion(["cat", "dog"], [0, 0, 1], [0, 1, 1])
    assert told == {"classes": ["cat", "dog"], "matrix": [[1, 1], [0, 1]]}


def test_of_many_classes_those_mistaken_most_are_shown_and_nothing_is_lost() -> None:
    classes = [f"c{n}" for n in range(100)]
    labels = [*range(100), *([42] * 5), *([7] * 3)]
    answers = [*range(100), *([43] * 5), *([42] * 3)]
    told = confusion(classes, labels, answers)
    assert len(told["classes"]) == SHOWN and told["classes"][-1] == OTHERS
    assert {"c7", "c42", "c43"} <= set(told["classes"])
    assert sum(map(sum, told["matrix"])) == len(labels)
    truth, said = told["classes"].index("c42"), told["classes"].index("c43")
    assert told["matrix"][truth][said] == 5
