"""What a task took of GPUs is told by the task itself, and is the same for a page and for an estimate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle.spent import spent
from hqclip.report import StageCost
from hqclip.report.spending import what_it_cost
from hqclip.store import Store, open_store

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"
SETTINGS = {"annotate": {"gpu_prices": ["H100=2.0-3.0", "L4=0.5-0.5"]}}
ON_CPU = {"seconds": 9.0, "work": {"gpu_seconds": 0.0, "devices": ["cpu"]}}
TRAIN = {"seconds": 360.0, "work": {"seconds": 3600.0, "gpu_seconds": 7200.0, "devices": [H100]}}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def rows_of(store: Store, **notes: dict[str, Any]) -> dict[str, StageCost]:
    return {row.task: row for row in spent(store, notes, SETTINGS)}


def test_each_task_is_priced_by_the_gpu_it_ran_on(store: Store) -> None:
    annotate = {"seconds": 1800.0, "work": {"gpu_seconds": 3600.0, "devices": [L4]}}
    rows = rows_of(store, annotate=annotate, train=TRAIN)
    assert (rows["annotate"].device, rows["annotate"].usd) == (L4, (0.5, 0.5))
    assert (rows["train"].device, rows["train"].usd) == (H100, (4.0, 6.0))


def test_a_gpu_counts_whatever_annotated(store: Store) -> None:
    score = {"seconds": 60.0, "device": "cuda bf16", "work": {"gpu_seconds": 60.0, "devices": [L4]}}
    older = {"seconds": 30.0, "device": "cuda bf16"}
    rows = rows_of(store, annotate=ON_CPU, train=TRAIN, score=score, evaluate=older)
    assert [rows[task].gpu_seconds for task in ("annotate", "train", "score", "evaluate")] == [0.0, 7200.0, 60.0, 30.0]
    assert [rows[task].device for task in ("annotate", "train", "score", "evaluate")] == ["", H100, L4, ""]


def test_training_without_gpus_costs_none_whatever_annotated(store: Store) -> None:
    annotate = {"seconds": 1800.0, "work": {"gpu_seconds": 3600.0, "devices": [L4]}}
    rows = rows_of(store, annotate=annotate, train={"seconds": 9.0, "work": {"seconds": 9.0, "restarts": 0}})
    assert (rows["train"].gpu_seconds, rows["train"].device, rows["train"].usd) == (0.0, "", None)


def test_a_task_that_tells_of_no_gpus_counts_those_of_its_nodes(store: Store) -> None:
    launch = {"key": "job/1", "node_hours": 2.5, "nodes": 2, "gpus": 4}
    store.write("launch/job/1/job.json", b'{"nproc": 1}')
    older = {"key": "job/1", "node_hours": 2.5}
    rows = rows_of(store, train={"seconds": 9.0, "launch": launch}, evaluate={"seconds": 9.0, "launch": older})
    assert (rows["train"].gpu_seconds, rows["evaluate"].gpu_seconds) == (2.5 * 4 * 3600, 2.5 * 3600)


def test_training_that_was_stopped_and_went_on_counts_all_its_tries_and_the_page_says_so(store: Store) -> None:
    rows = rows_of(store, train={**TRAIN, "launch": {"key": "gone/1", "node_hours": 0.1}})
    assert rows["train"].gpu_seconds == 7200.0
    assert "Of annotation and training that of all tries is counted" in what_it_cost([rows["train"]], None)


@pytest.mark.parametrize("work", [7, {"gpu_seconds": "many"}, {"gpu_seconds": 60.0, "devices": 7}])
def test_damaged_work_is_not_a_fault_of_the_page(store: Store, work: Any) -> None:
    assert rows_of(store, train={"seconds": 60.0, "work": work})["train"].gpu_seconds in (60.0, None)
