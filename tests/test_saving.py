"""A store that is away costs checkpoints, not steps, and the last checkpoint says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import nn

from hqclip.config import TrainConfig
from hqclip.errors import AccessError, HQClipError, StorageError, UnavailableError
from hqclip.records import Sample
from hqclip.store.local import LocalStore
from hqclip.train import stage
from hqclip.train.checkpoint import complete_steps
from hqclip.train.metrics import MetricsLog
from hqclip.train.saving import Saving
from hqclip.train.work import Work
from tests.training import tiny_run

RUN = "000001-hqclip"


class FaultStore(LocalStore):
    """A folder whose checkpoints cannot be written while `fault` is set, and wait while `away` is."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fault: HQClipError | None = None
        self.away = threading.Event()
        self.back = threading.Event()
        self.reached = threading.Event()
        self.writing = 0

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> Any:
        if "/checkpoints/" in key:
            self.writing += 1
            self.reached.set()
            if self.away.is_set():
                assert self.back.wait(60)
            if self.fault:
                raise self.fault
        return super().write(key, data, create_only=create_only)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FaultStore]:
    store = FaultStore(tmp_path)
    yield store
    store.back.set()


@pytest.fixture
def model() -> nn.Linear:
    return nn.Linear(2, 2)


@pytest.fixture
def metrics(store: FaultStore) -> Iterator[MetricsLog]:
    with MetricsLog(store, RUN, Work(store, RUN, 0.0, 8)) as metrics:
        yield metrics


def new_saving(store: FaultStore, model: nn.Linear, metrics: MetricsLog, patience_s: float) -> Saving:
    return Saving(store, RUN, model, torch.optim.AdamW(model.parameters()), metrics, patience_s)


@pytest.fixture
def saving(store: FaultStore, model: nn.Linear, metrics: MetricsLog) -> Saving:
    """One that waits for the checkpoint before, however busy the machine is."""
    return new_saving(store, model, metrics, patience_s=60)


def line(metrics: MetricsLog, step: int) -> dict[str, float]:
    metrics.add(step - 1, {"loss": 1.0})
    metrics.flush()
    return metrics.last


def test_training_goes_on_while_a_checkpoint_is_on_its_way(
    store: FaultStore, model: nn.Linear, metrics: MetricsLog, capsys: pytest.CaptureFixture[str]
):
    saving = new_saving(store, model, metrics, patience_s=0.01)
    store.away.set()
    saving.begin(1)  # returns though nothing is written yet
    assert store.reached.wait(60)
    assert complete_steps(store, RUN) == []
    assert "unsaved_steps" not in line(metrics, 1)
    for step in (2, 3):
        saving.begin(step)
    assert store.writing == 1, "there is one copy of the state in memory, and no queue"
    assert f"{RUN}: no checkpoint of step 3: an earlier one is still on its way" in capsys.readouterr().err
    assert line(metrics, 3)["unsaved_steps"] == 3
    store.away.clear()
    store.back.set()
    assert saving.settled(60)
    saving.begin(4)
    assert saving.settled(60)
    assert complete_steps(store, RUN) == [1, 4]
    assert "unsaved_steps" not in line(metrics, 4)


def test_what_is_written_is_the_state_when_it_was_taken(store: FaultStore, saving: Saving, model: nn.Linear):
    store.away.set()
    expected = model.weight.detach().clone()
    saving.begin(1)
    with torch.no_grad():
        model.weight.zero_()
    store.back.set()
    assert saving.settled(60)
    written = load(store.read(f"runs/{RUN}/checkpoints/step-000000001/model.safetensors"))
    assert torch.equal(written["weight"], expected)


@pytest.mark.parametrize("fault", [UnavailableError("the bucket does not answer"), StorageError("disk full")])
def test_a_fault_that_may_pass_is_told_and_tried_again_with_the_next(
    store: FaultStore, saving: Saving, metrics: MetricsLog, capsys: pytest.CaptureFixture[str], fault: HQClipError
):
    saving.begin(1)
    assert saving.settled(60)
    store.fault = fault
    saving.begin(2)
    assert saving.settled(60)
    assert f"{RUN}: no checkpoint of step 2, the newest is of 1: {fault}" in capsys.readouterr().err
    saving.begin(3)
    assert saving.settled(60)
    assert line(metrics, 3)["unsaved_steps"] == 2
    with pytest.raises(type(fault), match=str(fault)):
        saving.finish(4)
    store.fault = None
    saving.finish(5)
    assert complete_steps(store, RUN) == [1, 5]


def test_a_fault_that_will_not_pass_ends_the_run_at_the_next_checkpoint(store: FaultStore, saving: Saving):
    store.fault = AccessError("no right to write")
    saving.begin(1)
    with pytest.raises(AccessError, match="no right to write"):
        saving.begin(2)


def test_a_bug_in_the_background_is_not_lost(store: FaultStore, saving: Saving, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hqclip.train.saving.write_checkpoint", lambda *_: 1 / 0)
    saving.begin(1)
    with pytest.raises(ZeroDivisionError):
        saving.begin(2)


def test_the_last_checkpoint_waits_for_the_one_before(store: FaultStore, saving: Saving):
    """As after SIGTERM in the middle of a save."""
    store.away.set()
    saving.begin(1)
    threading.Timer(0.1, store.back.set).start()
    saving.finish(2)
    assert complete_steps(store, RUN) == [1, 2]


@pytest.fixture
def away(
    tmp_path: Path, draw_samples: Callable[..., list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainConfig, FaultStore]:
    config = replace(tiny_run(tmp_path, draw_samples(24)), samples_seen=96)
    store = FaultStore(Path(config.store))
    monkeypatch.setattr(stage, "open_store", lambda uri: store)
    return config, store


def test_a_run_whose_store_is_away_for_a_while_ends_as_if_it_had_not_been(
    away: tuple[TrainConfig, FaultStore], monkeypatch: pytest.MonkeyPatch
):
    config, store = away
    expected = stage.run(replace(config, run="near"))
    begin = Saving.begin

    def for_a_while(self: Saving, step: int) -> None:
        store.fault = UnavailableError("the bucket does not answer") if step < 9 else None
        begin(self, step)
        self.settled(60)

    monkeypatch.setattr(Saving, "begin", for_a_while)
    assert stage.run(replace(config, run="far"))["model_digest"] == expected["model_digest"]
    lines = [json.loads(text) for text in store.read("runs/far/metrics.jsonl").splitlines()]
    assert [told.get("unsaved_steps") for told in lines] == [None, 4, 6, 8, None, None]
    assert complete_steps(store, "far") == [9, 12]


def test_a_run_that_cannot_keep_its_last_state_fails_loudly_and_goes_on_later(away: tuple[TrainConfig, FaultStore]):
    config, store = away
    expected = stage.run(replace(config, run="kept"))
    store.fault = StorageError("/store: No space left on device; free some space and run again")
    run = replace(config, run="lost")
    with pytest.raises(StorageError, match="No space left on device; free some space and run again") as failed:
        stage.run(run)
    assert failed.value.exit_code == 74
    assert not store.exists("runs/lost/result.json") and not store.exists("runs/lost/model/README.md")
    store.fault = None
    assert stage.run(run)["model_digest"] == expected["model_digest"]


def test_a_run_that_is_stopped_leaves_no_thread_that_writes(away: tuple[TrainConfig, FaultStore]):
    config, _ = away
    stage.run(config)
    deadline = time.monotonic() + 60
    while any(thread.name == "checkpoint" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
