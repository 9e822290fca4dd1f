"""What a cycle has spent: tasks and agents of all its runs, each once, the killed ones as far as they were seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle.budget.limit import what_it_took
from hqclip.cycle.budget.spending import gpu_hours, mark_run
from hqclip.cycle.keys import notes_prefix, runs_prefix
from hqclip.launch.gpus import visible_gpus
from hqclip.report import Provenance, document
from hqclip.store import Store, open_store
from hqclip.task_records import prefix_of
from tests.spending import HOUR, agent, spend

NOTES = notes_prefix(1)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def test_tasks_with_gpus_of_all_runs_of_a_cycle_are_added_up(store: Store):
    spend(store, NOTES, "one", "annotate", hours=2.0, gpus=4)
    spend(store, NOTES, "one", "train", hours=1.0, trial="raw")
    spend(store, NOTES, "two", "train", hours=3.0, trial="raw", exit_code=1)
    spend(store, NOTES, "two", "curate", hours=9.0, gpus=0)
    spend(store, notes_prefix(2), "three", "train", hours=5.0)
    assert gpu_hours(store, NOTES) == {"annotate": 8.0, "train": 4.0}
    assert gpu_hours(store, notes_prefix(2)) == {"train": 5.0}


def test_a_killed_task_counts_to_its_last_sign_of_life_and_its_rerun_by_itself(store: Store):
    spend(store, NOTES, "one", "train", hours=0, ended=None, exit_code=None, seen=1000.0 + HOUR, pod="a")
    spend(store, NOTES, "one", "score", hours=0, ended=None, exit_code=None, pod="b")  # killed at once
    spend(store, NOTES, "one", "train", hours=2.0, pod="c")
    assert gpu_hours(store, NOTES) == {"train": 3.0}


def test_a_job_counts_once_however_many_launchers_follow_it_and_by_all_its_attempts(store: Store):
    first = {"launched": {"train-raw-x/1": 8}, "gpus": 0}
    spend(store, NOTES, "one", "train", hours=9.0, pod="a", **first)
    spend(store, NOTES, "one", "train", hours=9.0, pod="b", launched={"train-raw-x/1": 8, "train-raw-x/2": 8}, gpus=0)
    for node in range(2):
        agent(store, "train-raw-x/1", node, 2000.0, HOUR)
        agent(store, "train-raw-x/1", node, 9000.0, None)  # killed,
        agent(store, "train-raw-x/1", node, 9000.0 + HOUR, HOUR)  # and begun anew
    agent(store, "train-raw-x/2", 0, 1000.0 + 8 * HOUR, None)  # runs for an hour, as far as its launcher knows
    assert gpu_hours(store, NOTES) == {"train": 8 * (2 * 3 + 1.0)}


def test_a_page_says_what_it_took_in_all_runs_and_the_budget_that_was_given_last(store: Store):
    assert what_it_took(store, NOTES) == {}
    spend(store, NOTES, "one", "annotate", hours=2.0, gpus=4)
    spend(store, NOTES, "two", "train", hours=3.0)
    budget = {"gpu_hours": 20.0, "dollars": 100.0, "prices": {"annotate": 3.0, "train": 2.0}}
    mark_run(store, NOTES, "one", budget)
    told = what_it_took(store, NOTES)
    assert told == {
        "annotate": "8 GPU-hours",
        "train": "3 GPU-hours",
        "in all": "11 GPU-hours, $30.00 as the budget counts",
        "budget": "20 GPU-hours and $100",
    }
    page = document.what_was_run(Provenance(spent=told))
    assert "All runs and tries together" in page and "11 GPU-hours, $30.00" in page
    mark_run(store, NOTES, "two", {**budget, "dollars": -1.0})
    assert what_it_took(store, NOTES)["in all"] == "11 GPU-hours", "what it cost stands elsewhere on the page"


DAMAGED: list[dict[str, Any]] = [
    {"time": "yesterday"},
    {"time": None, "budget": [20]},
    {"budget": {"gpu_hours": "20", "dollars": None, "prices": [3.0]}},
    {"budget": {"prices": {"train": "3.0"}, "tokens": 5}},
]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_mark_that_is_damaged_or_newer_breaks_no_page(store: Store, damaged: dict[str, Any]):
    spend(store, NOTES, "one", "train", hours=3.0)
    mark = {"run": "one", "time": 2.0, "budget": {"gpu_hours": -1.0, "dollars": -1.0, "prices": {}}, **damaged}
    store.write(f"{runs_prefix(NOTES)}one.json", json.dumps(mark).encode(), create_only=False)
    assert what_it_took(store, NOTES) == {"train": "3 GPU-hours", "in all": "3 GPU-hours"}


def test_what_is_known_of_a_newer_mark_is_taken(store: Store):
    spend(store, NOTES, "one", "train", hours=3.0)
    mark_run(store, NOTES, "one", {"gpu_hours": 20.0, "tokens": 5})
    assert what_it_took(store, NOTES)["budget"] == "20 GPU-hours"


def test_the_mark_of_a_run_has_its_name_as_its_records_have_it(store: Store):
    run = "local:a host:7"
    spend(store, NOTES, run, "train", hours=3.0)
    assert store.exists(f"{runs_prefix(NOTES)}{prefix_of(run).removeprefix('pipelines/').removesuffix('/')}.json")


def test_gpus_are_those_that_a_process_is_told_of_or_has_devices_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for told, number in (("0", 1), ("GPU-1a,GPU-2b", 2), ("", 0), ("-1", 0)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert visible_gpus() == number
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr("hqclip.launch.gpus.DEVICES", tmp_path)
    for name in ("nvidia0", "nvidia3", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert visible_gpus() == 2
