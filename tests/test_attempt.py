"""What a task tells of itself: at its begin, at its end, when it is killed; and what it tries again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip import log, provenance, task
from hqclip.cycle import lock
from hqclip.cycle.attempt import recorded
from hqclip.errors import (
    AccessError,
    DataError,
    HQClipError,
    StoppedError,
    TerminatedError,
    TimeLimitError,
    UnavailableError,
)
from hqclip.store import Store, open_store
from hqclip.store.local import LocalStore
from hqclip.task import run_first, run_named, run_planned
from hqclip.task_records import NODE, POD, TaskRecord, read_records

RUN = "26703dc2-8cac-4b24-9bb9-10fb91f9b80a"
ROOT = Path(__file__).parents[1]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store, and the environment of a pod of a run."""
    for name, value in {
        provenance.RUN: RUN,
        POD: "refine-x-train-1",
        NODE: "gpu-3",
        provenance.IMAGE: "hub/train@sha256:1",
    }.items():
        monkeypatch.setenv(name, value)
    return open_store(str(tmp_path / "store"))


def no_waiting(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between tries, which are not waited for."""
    waited: list[float] = []
    monkeypatch.setattr(task.time, "sleep", waited.append)
    return waited


def told(store: Store, run: str = RUN) -> TaskRecord:
    (record,) = read_records(store, run)
    return record


def test_a_task_says_where_it_runs_as_it_begins_and_how_it_went_as_it_ends(store: Store) -> None:
    with recorded("train", store.uri, trial="raw") as attempt:
        begun = told(store)
        assert (begun.task, begun.pod, begun.node, begun.image) == (
            "train-raw",
            "refine-x-train-1",
            "gpu-3",
            "hub/train@sha256:1",
        )
        assert (begun.ended, begun.exit_code) == (None, None)
        for number in range(30):
            log.info("train", f"epoch {number}")
        attempt.decides({"model": "runs/1-raw/model", "seconds": 3.0})
    ended = told(store)
    assert (ended.exit_code, ended.reason, ended.started) == (0, "", begun.started)
    assert ended.ended and ended.ended >= ended.started
    assert ended.decided == {"model": "runs/1-raw/model"}
    assert len(ended.last) == 20 and ended.last[-1] == "hqclip train: epoch 29"


@pytest.mark.parametrize(
    ("error", "exit_code", "reason"),
    [
        (DataError("3 of 4 are damaged\nmore"), 65, "data"),
        (AccessError("no key"), 77, "access"),
        (TerminatedError("SIGTERM"), 143, "stopped"),
    ],
)
def test_a_fault_is_told_with_its_class_its_line_and_what_was_said(
    store: Store, error: HQClipError, exit_code: int, reason: str
) -> None:
    with pytest.raises(SystemExit) as end, recorded("curate", store.uri):
        raise error
    record = told(store)
    assert end.value.code == record.exit_code == exit_code
    assert record.reason == reason
    assert record.error == f"hqclip curate: {str(error).splitlines()[0]}"
    assert list(record.last) == f"hqclip curate: {error}".splitlines()


def test_a_bug_keeps_its_traceback_and_is_told_with_its_last_line_and_place(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), recorded("score", store.uri):
        1 / 0  # noqa: B018
    record = told(store)
    assert (record.exit_code, record.reason) == (1, "bug")
    assert record.error.startswith("ZeroDivisionError: division by zero (") and "test_attempt.py:" in record.error


def test_a_task_of_no_run_tells_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(provenance.RUN)
    with recorded("train", store.uri):
        pass
    assert not list(store.list())
    with recorded("train", store.uri, owner="local:host:7"):
        pass
    assert told(store, "local:host:7").exit_code == 0


def test_a_store_that_does_not_answer_is_a_warning_and_no_fault_of_the_task(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise UnavailableError("no answer")

    monkeypatch.setattr(LocalStore, "write", gone)
    with recorded("train", store.uri):
        log.info("train", "done")
    assert capsys.readouterr().err.count("the record of this task was not written: no answer") == 2


def test_a_launched_task_tells_of_its_job_while_it_runs_and_of_its_verdict(store: Store) -> None:
    with pytest.raises(SystemExit), recorded("train", store.uri) as attempt:
        attempt.launches({"name": "train-1", "namespace": "ml", "scheduler": "volcano", "key": "train-1/1"})
        assert told(store).job["name"] == "train-1"
        attempt.launches({"verdict": "failed", "reason": "", "attempts": 1, "restarts": 0})
        raise DataError("rank 1 on node 0 ended with exit code 65")
    assert (told(store).job["scheduler"], told(store).job["verdict"]) == ("volcano", "failed")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`stage(result or error, ...)`: what `run_stage` does, each time; the last again and again."""

    def are(*ends: Any) -> None:
        left = list(ends)

        def run_stage(name: str, settings: Any) -> dict[str, Any]:
            end = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(end, BaseException):
                raise end
            return dict(end)

        monkeypatch.setattr(task, "run_stage", run_stage)

    return are


def evaluate(store: Store, folder: Path) -> dict[str, Any]:
    given = {"store": store.uri, "model": "m", "suite": "u"}
    return run_named("evaluate", given, write_to=str(folder / "result"))


@pytest.mark.parametrize("passing", [UnavailableError("no answer"), StoppedError("nobody watches")])
def test_what_may_pass_is_tried_again_inside_the_task(
    store: Store,
    stage: Callable[..., None],
    tmp_path: Path,
    passing: HQClipError,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    waited = no_waiting(monkeypatch)
    stage(passing, passing, {"average": 0.5})
    assert evaluate(store, tmp_path)["average"] == 0.5
    assert len(waited) == 2 and 90 <= sum(waited) <= 180
    assert capsys.readouterr().err.count(f"{passing}; this may pass, so it is tried again in ") == 2
    assert told(store).exit_code == 0


@pytest.mark.parametrize(
    ("tries", "error"),
    [("3", DataError("x")), ("3", TimeLimitError("no machines in a day")), ("1", UnavailableError("x"))],
)
def test_what_does_not_pass_is_not_tried_again(
    store: Store,
    stage: Callable[..., None],
    tmp_path: Path,
    tries: str,
    error: HQClipError,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = no_waiting(monkeypatch)
    monkeypatch.setenv(task.TRIES, tries)
    stage(error)
    with pytest.raises(SystemExit) as end:
        evaluate(store, tmp_path)
    assert (end.value.code, waited) == (error.exit_code, [])


def test_after_so_many_tries_the_task_ends_with_the_code_of_the_last(
    store: Store, stage: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = no_waiting(monkeypatch)
    stage(UnavailableError("no answer"))
    with pytest.raises(SystemExit) as end:
        evaluate(store, tmp_path)
    assert (end.value.code, len(waited)) == (69, 2)
    assert (told(store).exit_code, told(store).reason) == (69, "service")


@pytest.mark.parametrize("tries", ["0", "21", "x", "-1", ""])
def test_a_number_of_tries_that_is_none_is_refused(
    store: Store, stage: Callable[..., None], tmp_path: Path, tries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(task.TRIES, tries)
    stage({"average": 0.5})
    with pytest.raises(SystemExit) as end:
        evaluate(store, tmp_path)
    assert end.value.code == 64


DECIDED = {
    "plan": {"has_work": False, "reason": "skipped", "cycle": 3, "trials": ["raw"], "locked_by": "monday"},
    "sweep": {"has_work": True, "reason": "2 trials", "plan": "sweeps/x", "trials": ["raw"], "dataset": "datasets/d"},
}


@pytest.mark.parametrize("name", DECIDED)
def test_a_first_task_tells_what_it_decided(
    store: Store, stage: Callable[..., None], tmp_path: Path, name: str
) -> None:
    stage({**DECIDED[name], "trials": [{"name": "raw", "settings": {}}], "settings": {}, "machines": {}})
    arguments = {"store": store.uri, "shards": "s", "suite": "u", "preset": "demo-quick", "trials": "raw"}
    run_first(name, arguments, write_to=str(tmp_path / "result"))
    assert told(store).decided == DECIDED[name]


def test_a_planned_task_tells_what_it_decided_and_of_which_trial(
    store: Store, stage: Callable[..., None], tmp_path: Path
) -> None:
    where = {"runs": "000003-", "notes": "cycles/000003.stages/", "machines": {}, "owner": "monday"}
    settings = {name: {"store": store.uri} for name in ("evaluate", "promote", "curate")}
    settings["evaluate"]["suite"] = "u"
    settings["promote"] |= {"plan": "cycles/000003.plan.json", "dataset": "d", "margin": 0.005}
    settings["curate"] |= {"pool": "p", "annotations": "a"}
    (tmp_path / "plan").write_text(json.dumps({"settings": settings, **where}))
    (tmp_path / "trained").write_text(json.dumps({"model": "runs/000003-lr-0.1/model", "evaluation": "e"}))
    plan, trained, to = (str(tmp_path / name) for name in ("plan", "trained", "to"))
    promoted = {"cycle": 3, "verdict": "refused", "reason": "average 5.0% against 6.0%", "average": 0.05}
    said = {
        "evaluate": {"evaluation": "evaluations/e.json", "average": 0.05},
        "promote": {**promoted, "candidate": "runs/000003-lr-0.1/model", "report": "cycles/000003.html"},
        "curate": {"dataset": "datasets/d/dataset.json", "rows": 7, "usable_rows": 5, "report": "datasets/d/page.html"},
    }
    for name, result in said.items():
        stage({**result, "seconds": 1.0, "flags": {}})
        run_planned(name, plan, [trained], write_to=to)
    records = {record.task: record for record in read_records(store, RUN)}
    assert set(records) == {"evaluate-lr-0.1", "promote", "curate"}
    assert records["promote"].decided == {**said["promote"], "margin": 0.005}
    assert records["evaluate-lr-0.1"].decided == said["evaluate"]
    assert records["curate"].decided == said["curate"]


TASK = """
import sys, threading, time
from hqclip.cycle.attempt import recorded
from hqclip.errors import TerminatedError
from hqclip import termination
from hqclip.termination import Termination
watch, left = termination._watch, threading.Event()
if sys.argv[3] == "asks, is told late":
    termination._watch = lambda *given: (left.wait(), watch(*given))
with recorded("train", sys.argv[1], owner=sys.argv[2]):
    if sys.argv[3] in ("sleeps", "late"):
        print("works", flush=True)
    if sys.argv[3] == "late":
        time.sleep(0.2)
    if sys.argv[3] in ("asks", "late", "asks, is told late"):
        with Termination() as termination:
            print("works", flush=True)
            while not termination.asked:
                time.sleep(0.01)
        left.set()
        time.sleep(float(sys.argv[4]))
        print("saved", flush=True)
        raise TerminatedError("SIGTERM: what was finished is kept")
    if sys.argv[3] == "asyncio":
        import asyncio
        from hqclip.termination import stopped_by_sigterm
        async def work():
            with stopped_by_sigterm(lambda: None):
                print("works", flush=True)
                await asyncio.sleep(float(sys.argv[4]))
        asyncio.run(work())
    time.sleep(60)
"""


def start(store: Store, *words: str) -> subprocess.Popen[str]:
    """A task in a process of its own, which has begun its work."""
    owner = "monday"
    task = subprocess.Popen(
        [sys.executable, "-c", TASK, store.uri, owner, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, provenance.RUN: RUN},
    )
    assert task.stdout and task.stdout.readline() == "works\n"
    return task


def wait_for(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_task_that_does_nothing_about_sigterm_marks_the_lock_tells_and_ends(store: Store) -> None:
    lock.take(store, "monday", 1)
    task = start(store, "sleeps")
    task.send_signal(signal.SIGTERM)
    assert task.wait(60) == 143
    assert json.loads(store.read(lock.ENDING))["owner"] == "monday"
    record = told(store)
    assert (record.exit_code, record.reason, record.failed) == (143, "stopped", False)


@pytest.mark.parametrize("way", ["asks", "asyncio"])
def test_a_task_that_saves_its_work_on_sigterm_marks_the_lock_and_tells_before_that(store: Store, way: str) -> None:
    """The container is gone half a second after SIGTERM, long before a checkpoint is written."""
    lock.take(store, "monday", 1)
    task = start(store, way, "60")
    task.send_signal(signal.SIGTERM)
    wait_for(lambda: told(store).ended)
    assert task.poll() is None, "it still saves its work"
    task.kill()
    task.wait(60)
    assert store.exists(lock.ENDING)
    assert told(store).exit_code == 143


def test_a_task_that_ends_by_itself_after_sigterm_tells_why(store: Store) -> None:
    task = start(store, "asks", "0")
    task.send_signal(signal.SIGTERM)
    assert task.wait(60) == 143
    assert told(store).error.startswith("hqclip train: SIGTERM")


def test_a_task_that_saves_its_work_is_not_ended_by_who_hears_of_sigterm_late(store: Store) -> None:
    """On a busy machine the thread that tells reads of the signal when the task is done with asking for it."""
    task = start(store, "asks, is told late", "1")
    task.send_signal(signal.SIGTERM)
    assert task.communicate(timeout=60)[0] == "saved\n"
    assert (task.returncode, told(store).exit_code) == (143, 143)


def test_a_signal_that_came_before_a_task_could_ask_for_it_ends_it(store: Store) -> None:
    task = start(store, "late", "0")
    task.send_signal(signal.SIGTERM)
    assert task.wait(60) == 143
    assert told(store).exit_code == 143


def test_a_task_that_is_killed_has_no_end(store: Store) -> None:
    task = start(store, "sleeps")
    task.kill()
    task.wait(60)
    assert (told(store).ended, told(store).exit_code, told(store).failed) == (None, None, False)


def test_a_child_of_a_task_dies_of_sigterm_as_ever_and_its_signals_are_not_the_task_s(store: Store) -> None:
    with recorded("train", store.uri, owner="monday"):
        child = os.fork()
        if child == 0:
            time.sleep(60)
            os._exit(0)
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert told(store).exit_code == 0 and not store.exists(lock.ENDING)


def test_the_handlers_of_a_process_are_as_they_were_after_a_task(store: Store) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with recorded("train", store.uri):
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
    fd = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(fd)
    assert fd == -1
