"""The comparison as a terminal and a README show it, and rows as verbs print them."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from hqclip.report import Comparison, Difference, Group, Model, Row, Score
from hqclip.report.text import text_table
from pipelines.client.output import show


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


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        ([{"run_id": "7e742f44", "name": "nightly"}, {"run_id": "0a1b2c3d", "name": "other"}], "7e742f44\n0a1b2c3d\n"),
        ({"name": "nightly", "id": "9"}, "nightly\n"),
        ([{"version": "0.1.0-abc", "id": "9"}], "0.1.0-abc\n"),
        ([], ""),
    ],
)
def test_rows_are_printed_as_names_for_a_script(rows: Any, names: str, capsys: pytest.CaptureFixture[str]):
    show(rows, "name")
    assert capsys.readouterr().out == names
    show(rows, "json")
    as_json = json.loads(capsys.readouterr().out)
    show(rows, "yaml")
    assert yaml.safe_load(capsys.readouterr().out) == as_json == rows
