"""A launcher stops the job that passes a budget, on a cluster and on this machine, and does not try it again."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle.budget import keeper
from hqclip.cycle.keys import notes_prefix
from hqclip.errors import BudgetError
from hqclip.launch.run import launch
from hqclip.launch.spec import LaunchSpec
from hqclip.records import Sample
from hqclip.store import open_store
from hqclip.task import run_planned
from hqclip.task_records import read_records
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, PLURAL, SETTINGS, Pods, posts, spec
from tests.spending import HOUR, agent, spend
from tests.training import tiny_run

RUN, NOTES = "0f6a2c31", notes_prefix(1)
CLUSTER = pytest.mark.usefixtures("at_once")
Train = Callable[[], dict[str, Any]]


@pytest.fixture
def train(tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch) -> Train:
    """The task of a trial of cycle 1, launched on two nodes of eight GPUs, with a budget of ten GPU-hours."""
    monkeypatch.setenv("HQCLIP_RUN", RUN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(keeper, "LOOK_S", 0.0)
    planned = {
        "settings": {"train": {"store": str(tmp_path / "store"), **SETTINGS}},
        "trials": [{"name": "hqclip", "settings": {}}],
        "machines": {"train": spec(tmp_path, scheduler, gpus=8).to_mapping()},
        "budget": {"gpu_hours": 10.0, "dollars": -1.0, "prices": {"train": 3.0}},
        "runs": "000001-",
        "notes": NOTES,
    }
    plan, before = tmp_path / "plan", tmp_path / "before"
    plan.write_text(json.dumps(planned))
    before.write_text("{}")
    trial = {"name": "hqclip", "settings": {}}
    return lambda: run_planned("train", str(plan), [str(before)], trial=trial, write_to=str(tmp_path / "result"))


@CLUSTER
def test_a_job_on_a_cluster_that_passes_the_budget_is_removed_and_told_as_that(
    cluster: FakeCluster, pods: Pods, scheduler: str, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_for_an_hour() -> None:
        pods.start()
        for node in range(2):
            agent(pods.store, pods.key, node, time.time() - HOUR, None)

    cluster.then("POST", CREATE, run_for_an_hour)
    failed = train()["failed"]
    assert (failed["exit_code"], failed["reason"]) == (76, "budget")
    assert re.search(r"1[56](\.\d+)? GPU-hours are more than its budget of 10 \(.*: train 1[56]", failed["error"])
    assert cluster.names(PLURAL[scheduler]) == [] and posts(cluster) == 1
    (record,) = read_records(pods.store, RUN)
    assert (record.reason, record.job["verdict"]) == ("budget", "budget")
    assert record.launched == {record.job["key"]: 8}
    monkeypatch.setenv("HQCLIP_POD", "the-next-one")
    assert train()["failed"]["reason"] == "budget"
    assert posts(cluster) == 1, "what nothing is left for is not begun"


@CLUSTER
def test_what_another_trial_spends_stops_a_job_that_waits_for_its_machines(
    cluster: FakeCluster, pods: Pods, scheduler: str, train: Train
) -> None:
    def other() -> None:
        spend(pods.store, NOTES, "another", "train", hours=11.0, trial="raw")

    cluster.then("POST", CREATE, other)
    assert train()["failed"]["reason"] == "budget"
    assert cluster.names(PLURAL[scheduler]) == []


@CLUSTER
def test_within_the_budget_a_job_ends_as_ever(cluster: FakeCluster, pods: Pods, train: Train) -> None:
    cluster.then("POST", CREATE, lambda: (pods.start(), pods.succeed(model="m")))
    assert train()["model"] == "m"
    (record,) = read_records(pods.store, RUN)
    assert (record.exit_code, record.job["verdict"]) == (0, "succeeded")


@pytest.mark.slow
def test_a_training_on_this_machine_writes_a_checkpoint_before_its_budget_ends_it(
    tmp_path: Path, draw_samples: Callable[..., list[Sample]]
) -> None:
    config = replace(tiny_run(tmp_path, draw_samples(24)), samples_seen=80_000, checkpoint_every=5)
    checkpoints = f"runs/{config.run}/checkpoints/"
    store, told = open_store(config.store), list[Any]()

    def is_spent() -> BudgetError | None:
        return BudgetError("it is spent") if any(store.list(checkpoints)) else None

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.raises(BudgetError, match="it is spent"):
        launch(LaunchSpec(scheduler="local", gpus=1), "train", config.to_mapping(), tell=told.append, budget=is_spent)
    assert handlers == {number: signal.getsignal(number) for number in handlers}  # TorchX takes them over
    assert (told[0]["gpus"], told[-1]["verdict"]) == (1, "budget")
    logs = b"".join(store.read(key) for key in store.list(f"launch/{told[0]['key']}/logs/")).decode()
    assert "stopped at step" in logs
    (end,) = [json.loads(store.read(key)) for key in store.list(f"launch/{told[0]['key']}/") if ".end." in key]
    assert (end["exit_code"], end["progress"]) == (143, list(store.list(checkpoints))[-1])
