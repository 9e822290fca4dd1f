"""Records of tasks: written over, read in order, damaged ones left out."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from hqclip.cycle.attempt import DECIDED
from hqclip.stages import STAGES
from hqclip.store import open_store
from hqclip.task_records import REASONS, TaskRecord, read_records, write_record

RUN = "3b3ea201-9e96-4361-8458-42497edff513"
RECORD = TaskRecord(run=RUN, stage="train", trial="lr 1e-3", pod="refine-x-1", started=100.0)


def test_a_record_is_written_again_when_the_task_ends(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    write_record(store, RECORD)
    assert read_records(store, RUN) == [RECORD]
    ended = dataclasses.replace(
        RECORD, ended=120.0, exit_code=65, reason="data", error="hqclip train: nan", last=("a", "b"), job={"name": "j"}
    )
    write_record(store, ended)
    assert read_records(store, RUN) == [ended]
    assert ended.failed and not RECORD.failed


def test_attempts_and_runs_are_apart_and_in_order(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    again = dataclasses.replace(RECORD, pod="refine-x-2", started=90.0)
    other = dataclasses.replace(RECORD, run="local:host:7")
    for record in (RECORD, again, other):
        write_record(store, record)
    assert read_records(store, RUN) == [again, RECORD]
    assert read_records(store, "local:host:7") == [other]
    assert read_records(store, RUN[:8]) == []


def test_a_damaged_record_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(str(tmp_path))
    write_record(store, RECORD)
    store.write(f"pipelines/{RUN}/plan/p.json", b'{"kind": "task"', create_only=False)
    assert read_records(store, RUN) == [RECORD]
    assert f"pipelines/{RUN}/plan/p.json" in capsys.readouterr().err


def test_what_was_stopped_from_outside_did_not_fail() -> None:
    assert not dataclasses.replace(RECORD, ended=1.0, exit_code=143, reason="stopped").failed


def test_the_document_shows_a_record_and_all_that_it_may_say() -> None:
    text = (Path(__file__).parents[1] / "docs" / "formats.md").read_text().partition("## Tasks of a pipeline run")[2]
    (example,) = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    assert json.loads(TaskRecord.from_json(example.encode(), "docs/formats.md").to_json()) == json.loads(example)
    assert {reason for reason in REASONS.values() if f"`{reason}`" not in text} == set()
    assert set(DECIDED) == {*STAGES, "finish"}
    for stage, names in DECIDED.items():
        (row,) = re.findall(rf"^\| `{stage}` \| (.*) \|$", text, re.MULTILINE)
        assert [name for name in names if f"`{name}`" not in row] == []
