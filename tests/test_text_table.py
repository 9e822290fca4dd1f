"""The comparison as a terminal and a README show it."""

from __future__ import annotations

from hqclip.report import Comparison, Difference, Group, Model, Row, Score
from hqclip.report.text import text_table


def test_scores_stand_beside_their_difference_to_the_first_arm():
    better = Score(0.5, Difference(0.25, -0.2, 0.3))
    models = (Model("raw"), Model("hqclip"))
    swaps = Group("choice", (Row("swap object", "accuracy", (None, Score(1.0))),))
    table = text_table(Comparison(models, Row("average", "", (Score(0.25), better)), (swaps,), "raw"))
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert cells[0] == ["", "raw", "hqclip"]
    assert cells[2:] == [
        ["choice: swap object", "-", "100.0%"],
        ["average", "25.0%", "50.0% (+25.0; -20.0 to +30.0)"],
    ]
    assert len({len(line) for line in table.splitlines()}) == 1, "columns stand under each other"
