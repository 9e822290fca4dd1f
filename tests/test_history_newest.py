"""A history of the newest cycles says of them what that of all says, and what is known of the others stays known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hqclip.cycle.history.cycles import since
from hqclip.cycle.history.memory import KEY as MEMORY
from hqclip.cycle.keys import record_key
from hqclip.cycle.spent import LOOK_BACK, work_before
from hqclip.report.history import PastCycle
from hqclip.store import open_store
from tests.histories import Past
from tests.test_history import told


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "store")


def test_what_annotation_cost_does_not_depend_on_how_many_cycles_are_shown(past: Past) -> None:
    for number in (1, 2, 3):
        past.cycle(number)
    said = told(past, last=1)
    ((row,),) = ([row for row in cycle["stages"] if row["task"] == "annotate"] for cycle in said["cycles"])
    assert row["gpu_seconds"] == pytest.approx(1.5 * 3600)
    assert said["left_out"] == {"cycles": 2, "runs": 1}


def test_of_cycles_that_are_not_shown_no_problem_is_told(past: Past) -> None:
    past.cycle(1)
    past.cycle(2)
    past.text(record_key(1), "{")
    assert told(past, last=1)["problems"] == () != told(past, last=2)["problems"]


@pytest.mark.parametrize(("cycle", "before"), [(1 + LOOK_BACK, 60.0), (2 + LOOK_BACK, 0.0)])
def test_the_page_of_all_cycles_looks_as_far_back_as_that_of_one(past: Past, cycle: int, before: float) -> None:
    past.cycle(1, annotate={"annotator": "a", "work": {"gpu_seconds": 60.0}})
    past.cycle(2, annotate={"annotator": "b", "work": {"gpu_seconds": 7.0}})
    earlier = [PastCycle(cycle=1, annotator="a", logged=60.0), PastCycle(cycle=2, annotator="b", logged=7.0)]
    assert since(PastCycle(cycle=cycle, annotator="a"), earlier) == before
    assert work_before(open_store(str(past.root)), cycle, {"annotate": {"annotator": "a"}}) == (
        {"gpu_seconds": before} if before else {}
    )


def test_a_look_at_the_newest_forgets_nothing_of_the_others(past: Past) -> None:
    cycles = 3 + LOOK_BACK
    for number in range(1, cycles + 1):
        past.cycle(number)
    before = told(past)
    (past.root / f"datasets/{1:016x}/statistics.json").unlink()
    assert len(told(past, last=1)["cycles"]) == 1
    kept = json.loads((past.root / MEMORY).read_text())
    assert [row["cycle"] for row in kept["cycles"]] == list(range(1, cycles + 1)) and len(kept["runs"]) == cycles
    assert told(past) == before
    for path in [*(past.root / "cycles").glob("000002.*"), *(past.root / "cycles/000002.stages").iterdir()]:
        if path.is_file():
            path.unlink()
    told(past, last=1)
    assert 2 not in [row["cycle"] for row in json.loads((past.root / MEMORY).read_text())["cycles"]], "it is gone"
