"""What passes a budget while it runs is stopped with a checkpoint, and is told as that and not as a crash."""

from __future__ import annotations

import io
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from hqclip.cycle.attempt import Attempt
from hqclip.cycle.budget import keeper
from hqclip.cycle.finish import how_ended
from hqclip.cycle.keys import notes_prefix
from hqclip.cycle.notices import tell_end
from hqclip.data.images import ImageFault, decode_picture
from hqclip.errors import BudgetError, HQClipError, TerminatedError
from hqclip.interruption import Interruption, interruptible
from hqclip.records import FailedTrial
from hqclip.store import Store, open_store
from hqclip.task import run_planned
from hqclip.task_records import TaskRecord, read_records
from hqclip.termination import Termination
from tests.fakes.receivers import FakeWeb
from tests.spending import spend

RUN, NOTES = "0f6a2c31", notes_prefix(1)
PATIENCE_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


class Task:
    """A task of a cycle with the trials raw and hqclip that has a budget, and what is in the store of it."""

    def __init__(self, folder: Path, store: Store, **budget: Any) -> None:
        self.folder, self.store = folder, store
        prices = dict.fromkeys(("annotate", "score", "train", "evaluate"), 3.0)
        self.planned = {
            "settings": {
                "annotate": {"store": store.uri, "pool": "p"},
                "train": {"store": store.uri, "dataset": "d", "model": "shapes"},
                "evaluate": {"store": store.uri, "suite": "s"},
            },
            "trials": [{"name": name, "settings": {}} for name in ("raw", "hqclip")],
            "machines": {},
            "budget": {"gpu_hours": -1.0, "dollars": -1.0, "prices": prices, **budget},
            "runs": "000001-",
            "notes": NOTES,
        }

    def run(self, stage: str, trial: str = "") -> dict[str, Any]:
        (self.folder / "plan").write_text(json.dumps(self.planned))
        (self.folder / "before").write_text("{}")
        of = {"name": trial, "settings": {}} if trial else None
        to = str(self.folder / "result")
        return run_planned(stage, str(self.folder / "plan"), [str(self.folder / "before")], trial=of, write_to=to)

    @property
    def record(self) -> TaskRecord:
        return read_records(self.store, RUN)[-1]


@pytest.fixture(autouse=True)
def in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Kubeflow, in a pod with a GPU, which counts without pause."""
    monkeypatch.setenv("HQCLIP_RUN", RUN)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(keeper, "BEAT_S", 0.02)
    monkeypatch.setattr(keeper, "LOOK_S", 0.0)


def works(monkeypatch: pytest.MonkeyPatch, work: Callable[[], dict[str, Any]]) -> None:
    monkeypatch.setattr("hqclip.task.run_stage", lambda *_: work())


def until_told(store: Store) -> dict[str, Any]:
    """As a training: it asks between two steps, and writes a checkpoint."""
    with Termination() as termination:
        spend(store, NOTES, "another", "annotate", hours=2.0)
        deadline = time.monotonic() + PATIENCE_S
        while not termination.asked:
            assert time.monotonic() < deadline, "nobody stopped it"
            time.sleep(0.01)
        store.write("checkpoint", b"c")
        raise TerminatedError("stopped at step 3")


def without_asking(store: Store) -> dict[str, Any]:
    """As a judging, which has nothing to write before its end."""
    spend(store, NOTES, "another", "annotate", hours=2.0)
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(0.01)
    raise AssertionError("nobody stopped it")


def test_a_training_in_its_own_pod_is_stopped_with_a_checkpoint_and_its_trial_fails_by_the_budget(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    task = Task(tmp_path, store, gpu_hours=1.0)
    works(monkeypatch, lambda: until_told(store))
    failed = task.run("train", trial="raw")["failed"]
    assert (failed["exit_code"], failed["reason"]) == (76, "budget")
    assert "stopped by the budget of cycle 1: " in failed["error"] and "annotate 2)" in failed["error"]
    assert store.exists("checkpoint")
    assert (task.record.exit_code, task.record.reason, task.record.gpus) == (76, "budget", 1)
    works(monkeypatch, lambda: pytest.fail("the other trial has no budget left"))
    assert task.run("train", trial="hqclip")["failed"]["reason"] == "budget"
    assert FailedTrial.from_json(store.read(f"{NOTES}failed/hqclip.json"), "hqclip").reason == "budget"


def test_annotating_counts_and_is_stopped_and_is_not_tried_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    task = Task(tmp_path, store, dollars=5.0)
    works(monkeypatch, lambda: until_told(store))
    with pytest.raises(SystemExit) as end:
        task.run("annotate")
    assert end.value.code == 76 and isinstance(end.value.__cause__, BudgetError)
    assert "is more than its budget of $5" in task.record.error
    assert task.record.seen is not None


def test_a_stage_that_never_asks_is_interrupted(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    task = Task(tmp_path, store, gpu_hours=1.0)
    works(monkeypatch, lambda: without_asking(store))
    before = signal.getsignal(signal.SIGUSR1)
    assert task.run("train", trial="raw")["failed"]["exit_code"] == 76
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_picture_that_is_decoded_just_then_is_not_taken_for_a_damaged_one(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
):
    def worked() -> dict[str, Any]:
        with suppress(ImageFault):  # counted, and the next one is taken
            decode_picture(file.getvalue())
        return {"model": "m"}

    file = io.BytesIO()
    Image.new("RGB", (32, 32)).save(file, "JPEG")
    monkeypatch.setattr(JpegImageFile, "load", lambda *_: without_asking(store))
    works(monkeypatch, worked)
    assert Task(tmp_path, store, gpu_hours=1.0).run("train", trial="raw")["failed"]["reason"] == "budget"


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """Each SIGUSR1 that comes while no task has a handler for it, of which the process would die."""
    came = list[int]()
    before = signal.signal(signal.SIGUSR1, lambda number, _: came.append(number))
    yield came
    signal.signal(signal.SIGUSR1, before)


class Look:
    """A count of the GPU-hours in a heartbeat that takes until `goes_on`, and then finds too many."""

    def __init__(self) -> None:
        self.began, self.goes_on = threading.Event(), threading.Event()

    def __call__(self, *_: Any) -> dict[str, float]:
        if threading.current_thread().name != "heartbeat":
            return {}
        self.beat = threading.current_thread()
        self.began.set()
        assert self.goes_on.wait(PATIENCE_S)
        return {"train": 2.0}

    def ends(self) -> None:
        self.goes_on.set()
        self.beat.join(PATIENCE_S)
        assert not self.beat.is_alive()


def test_a_look_that_finds_it_spent_when_the_work_is_done_ends_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, interrupts: list[int]
):
    def worked() -> dict[str, Any]:
        assert look.began.wait(PATIENCE_S)
        return {"model": "m"}

    look = Look()
    monkeypatch.setattr(keeper, "gpu_hours", look)
    works(monkeypatch, worked)
    assert Task(tmp_path, store, gpu_hours=1.0).run("train", trial="raw") == {"model": "m"}
    look.ends()
    assert interrupts == []


def test_outside_the_main_thread_nothing_is_interrupted(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, interrupts: list[int]
):
    def worked() -> dict[str, Any]:
        assert look.began.wait(PATIENCE_S)
        seen, deadline = task.record.seen, time.monotonic() + PATIENCE_S
        look.goes_on.set()
        while task.record.seen == seen:  # the next sign of life comes after what the look led to
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)
        return {"model": "m"}

    look, task, results = Look(), Task(tmp_path, store, gpu_hours=1.0), list[Any]()
    monkeypatch.setattr(keeper, "gpu_hours", look)
    works(monkeypatch, worked)
    thread = threading.Thread(target=lambda: results.append(task.run("train", trial="raw")))
    thread.start()
    thread.join(PATIENCE_S)
    assert (results, interrupts) == ([{"model": "m"}], [])


def test_between_two_looks_a_task_gives_one_sign_of_life(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    def worked() -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while len(looks) < 5:
            assert time.monotonic() < deadline, "no heartbeat"
            time.sleep(0.01)
        assert 4 <= len(signs) <= len(looks)
        return {"model": "m"}

    signs, looks = list[Any](), list[Any]()
    monkeypatch.setattr(Attempt, "lives", lambda attempt: signs.append(attempt))
    monkeypatch.setattr(keeper, "gpu_hours", lambda *which: looks.append(which) or {})
    works(monkeypatch, worked)
    assert Task(tmp_path, store, gpu_hours=1.0).run("train", trial="raw") == {"model": "m"}


def test_within_its_budget_a_task_ends_as_ever(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    task = Task(tmp_path, store, gpu_hours=1.0)
    works(monkeypatch, lambda: {"model": "runs/x/model"})
    assert task.run("train", trial="raw") == {"model": "runs/x/model"}
    assert (task.record.exit_code, task.record.gpus) == (0, 1)


def test_sigterm_from_outside_is_still_no_budget(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch):
    def told() -> dict[str, Any]:
        raise TerminatedError("SIGTERM")

    works(monkeypatch, told)
    with pytest.raises(SystemExit) as end:
        Task(tmp_path, store, gpu_hours=1.0).run("train", trial="raw")
    assert end.value.code == 143


def test_a_store_that_does_not_answer_stops_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def away(*_: Any) -> dict[str, float]:
        raise HQClipError("the store is away")

    monkeypatch.setattr(keeper, "gpu_hours", away)
    works(monkeypatch, lambda: {"model": "m"})
    assert Task(tmp_path, store, gpu_hours=1.0).run("train", trial="raw") == {"model": "m"}
    assert "what was spent so far is not known: the store is away" in capsys.readouterr().err


def test_sigterm_while_it_counts_is_not_taken_for_that(store: Store, monkeypatch: pytest.MonkeyPatch):
    def stopped(*_: Any) -> dict[str, float]:
        raise Interruption(TerminatedError("stopped"))

    monkeypatch.setattr(keeper, "gpu_hours", stopped)
    with pytest.raises(TerminatedError), interruptible():
        keeper.Keeper(store, {"notes": NOTES, "budget": {"gpu_hours": 1.0}}).exceeded()


def ended(*records: dict[str, Any]) -> dict[str, Any]:
    """How a run of these tasks ended."""
    return how_ended([TaskRecord(run=RUN, started=1.0, ended=2.0, **record) for record in records], RUN)


def test_the_end_of_a_run_says_that_its_budget_stopped_it():
    plan = {"stage": "plan", "exit_code": 0, "decided": {"has_work": True, "trials": ["raw"]}}
    over = {"exit_code": 76, "reason": "budget", "error": "hqclip train: spent"}
    told = ended(plan, {"stage": "train", "trial": "raw", **over}, {"stage": "promote", **over})
    assert (told["outcome"], told["task"]) == ("budget", "train-raw")
    assert told["reason"].startswith("the run was stopped by its budget at train-raw: hqclip train: spent, exit code")
    assert ended({"stage": "plan", **over})["outcome"] == "budget"


def test_people_are_told_of_it_as_that(store: Store, monkeypatch: pytest.MonkeyPatch):
    with FakeWeb() as web:
        monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", web.url)
        over = ended({"stage": "annotate", "exit_code": 76, "reason": "budget", "error": "hqclip annotate: spent"})
        tell_end(store, RUN, over, {"plan": {"cycle": 3}})
        (body,) = [body for _, _, body in web.taken]
    assert (body["event"], body["title"]) == ("budget", "hqclip: a run was stopped by its budget at annotate (cycle 3)")
    assert body["links"]["next"] == f"python -m pipelines explain {RUN}"
