"""Names that were given up are understood for two minor versions, with a warning, and not longer."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from hqclip import __version__, cli, deprecated
from hqclip.deprecated import COMMAND, INPUT, NAMES, SETTING, Renamed, current
from pipelines.client.inputs import read_inputs
from pipelines.inputs import INPUTS

CHANGES = (Path(__file__).parents[1] / "CHANGELOG.md").read_text(encoding="utf-8")
KNOWN = {
    COMMAND: set(cli.COMMANDS),
    SETTING: {field.name for command in cli.COMMANDS.values() for field in dataclasses.fields(command.settings)},
    INPUT: {name for inputs in INPUTS.values() for name in inputs.settings},
}


def minor(version: str) -> tuple[int, int]:
    major, number = version.split(".")[:2]
    return int(major), int(number)


def is_past(one: Renamed, version: str) -> bool:
    return minor(version) >= minor(one.until)


@pytest.mark.parametrize("one", NAMES, ids=lambda one: one.was)
def test_none_is_past_its_time(one: Renamed) -> None:
    assert not is_past(one, __version__), f"{one.was} is past its time: take its line out of hqclip/deprecated.py"


@pytest.mark.parametrize("one", NAMES, ids=lambda one: one.was)
def test_each_is_gone_its_new_name_is_there_and_the_changes_have_both(one: Renamed) -> None:
    assert one.was not in KNOWN[one.kind]
    assert one.now in KNOWN[one.kind]
    assert re.search(rf"\b{one.was}\b", CHANGES)
    assert re.search(rf"\b{one.now}\b", CHANGES)


def test_two_minor_versions_are_0_2_and_0_3() -> None:
    one = Renamed(SETTING, "points", "trials", "0.2")
    assert [is_past(one, version) for version in ("0.1.0", "0.2.0", "0.3.9", "0.4.0", "1.0.0")] == [0, 0, 0, 1, 1]


def test_a_flag_and_a_command_of_before_work_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["plan", "--store", "s", "--shards", "x", "--points=raw", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert '"raw"' in out
    assert "the setting points is called trials since 0.2; 0.4 will not know points" in err
    assert cli.main(["request", "--store", "s", "--suite", "x", "--dry-run"]) == 0
    assert "the command request is called plan_evaluation" in capsys.readouterr().err


def test_an_input_of_before_works_where_only_the_new_one_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    text = {"parameterType": "STRING"}
    assert read_inputs({"train_trials": text}, ["train_points=raw"]) == {"train_trials": "raw"}
    assert "train_points is called train_trials" in capsys.readouterr().err
    assert read_inputs({"train_points": text}, ["train_points=raw"]) == {"train_points": "raw"}  # an old version's
    assert not capsys.readouterr().err


def test_what_is_not_in_the_table_stays_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deprecated, "NAMES", ())
    assert current(SETTING, "points", ["trials"]) == "points"
