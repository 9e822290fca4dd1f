"""A task of a cycle that is run twice, or killed at any operation of the store and run again: Kubeflow does both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from hqclip.config import DemoWorldConfig
from hqclip.cycle import lock
from hqclip.cycle.finish import finish
from hqclip.demo.world import make_world
from hqclip.provenance import RUN
from hqclip.store import open_store
from hqclip.task import run_first, run_planned
from hqclip.task_records import POD, read_records
from tests.cycle import STEPS, TINY
from tests.fakes.cut_short import Killed, cut_short

OWNER = "26703dc2-8cac-4b24-9bb9-10fb91f9b80a"
CHANGES = ("write", "swap", "delete")
TASKS = ("plan", *STEPS, "train", "evaluate", "promote", "finish")
OF_TIME = (
    "seconds",
    "already_done",
    "work",
    "launch",
    "provenance",
)  # of one attempt, not of what was done
TIMED = (
    "/tensorboard/",
    "/work/",
    "pipelines/",
    "cycles/lock",
    ".runs/",
    ".html",
    "claims/",
)  # keys of what has times in it
OLD = "/checkpoints/"  # one that was to be deleted may stay; what was trained is compared as it was exported


@dataclass
class Cluster:
    """A store and the files that tasks hand on, as they were before each task of a cycle."""

    folder: Path
    world: dict[str, Any]

    def run(self, task: str, here: Path) -> Any:
        """Do a task in a copy of the store; its result."""
        to = str(here / f"{task}.json")
        store = str(here / "store")
        if task == "plan":
            given = {"store": store, "shards": self.world["shards"], "suite": self.world["suite"], "owner": OWNER}
            given |= {"preset": "demo-quick", "trials": "hqclip", "overrides": json.dumps(TINY)}
            return run_first("plan", given, write_to=to)
        if task == "finish":
            return finish(store, OWNER)
        earlier = {"train": ["curate"], "evaluate": ["train"], "promote": ["curate", "evaluate"]}
        wanted = [str(here / f"{name}.json") for name in earlier.get(task, TASKS[1 : TASKS.index(task)])]
        trial = json.loads((here / "plan.json").read_text())["trials"][0] if task == "train" else None
        return run_planned(task, self.at(here), wanted, trial=trial, write_to=to)

    def at(self, here: Path) -> str:
        """The plan as it is for a copy of the store: its settings name the place."""
        plan = json.loads((here / "plan.json").read_text())
        for settings in plan["settings"].values():
            settings["store"] = str(here / "store")
        (here / "plan.json").write_text(json.dumps(plan))
        return str(here / "plan.json")

    def copy(self, task: str, to: Path) -> Path:
        """Store and files as they were before the task."""
        return Path(shutil.copytree(self.folder / task, to))


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads in no order, and its faults break nothing."""
    monkeypatch.setattr("hqclip.cycle.history.write._write", lambda *_: None)
    monkeypatch.setattr("hqclip.cycle.history.write.read_history", lambda *_: ((), {}))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("cycle")
    world = make_world(DemoWorldConfig(store=str(folder / "world"), images=24, scenes=8))
    cluster = Cluster(folder, world)
    now = folder / "now"
    (now / "store").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(RUN, OWNER)
        patch.setattr(lock, "BEAT_S", 3600.0)  # else the number of operations is another one each time
        for task in TASKS:
            shutil.copytree(now, folder / task)
            cluster.run(task, now)
        yield cluster


def told(result: Any) -> Any:
    """A result without what is of one attempt only."""
    return {k: v for k, v in result.items() if k not in OF_TIME} if isinstance(result, dict) else result


def contents(here: Path) -> dict[str, Any]:
    store = open_store(str(here / "store"))
    keys = [key for key in store.list() if not any(part in key for part in (*TIMED, OLD))]
    found = {key: store.read(key) for key in keys}
    return {
        key: told(json.loads(data)) if key.endswith(".json") else google_crc32c.value(data)
        for key, data in found.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_task_that_is_killed_at_any_operation_ends_as_if_it_had_not_been(
    cluster: Cluster, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = cluster.copy(task, tmp_path / "whole")
    with monkeypatch.context() as patch:
        operations = cut_short(patch, 0, Killed())
        result = cluster.run(task, whole)
    assert told(cluster.run(task, whole)) == told(result) or task == "plan"  # which sees what it wrote
    expected = contents(whole)
    for number in numbers(task, operations):
        here = cluster.copy(task, tmp_path / f"{number}")
        monkeypatch.setenv(POD, "first")
        with monkeypatch.context() as patch, pytest.raises(BaseException) as end:  # noqa: PT011 - a thread's may be wrapped
            cut_short(patch, number, Killed())
            cluster.run(task, here)
        assert killed(end.value), f"{task} was to be killed at operation {number} of {len(operations)}"
        monkeypatch.setenv(POD, "second")
        again = relative(cluster.run(task, here), here)
        assert told(again) == told(relative(result, whole)), f"killed at operation {number}"
        assert relative(contents(here), here) == relative(expected, whole), f"killed at operation {number}"
        attempts = [each for each in read_records(open_store(str(here / "store")), OWNER) if each.stage == task]
        assert [each.exit_code for each in attempts if each.pod == "second"] == [0]
        shutil.rmtree(here)


def numbers(task: str, operations: list[str]) -> list[int]:
    """Which operations: every one, but where an attempt takes seconds those that change something, and some others."""
    every = range(1, len(operations) + 1)
    if task not in ("annotate", "train", "evaluate"):
        return list(every)
    return [number for number in every if operations[number - 1] in CHANGES or number % 9 == 0]


def killed(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, Killed):
        error = error.__cause__ or error.__context__
    return error is not None


def relative(found: Any, here: Path) -> Any:
    """Without the place of the store."""
    return json.loads(json.dumps(found).replace(str(here), "."))
