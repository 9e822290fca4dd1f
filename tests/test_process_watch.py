"""Who works for a process that is gone ends: tasks of a run on this machine, ranks, agents."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hqclip.cycle import lock
from hqclip.process_watch import started_at, when_gone
from hqclip.store.leftovers import scratch_folder

PATIENCE_S = 120.0
ROOT = Path(__file__).parents[1]


def until(holds: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def is_running(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_a_process_is_told_from_a_later_one_of_the_same_number_and_from_its_zombie():
    child = subprocess.Popen(["sleep", "60"])
    assert started_at(child.pid) == started_at(child.pid) != started_at(os.getpid())
    child.kill()
    until(lambda: started_at(child.pid) == "", "a zombie counts as running")
    child.wait()
    assert started_at(child.pid) == ""


def test_the_end_of_a_process_is_noticed_once_and_at_once_if_it_came_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("hqclip.process_watch.EVERY_S", 0.01)
    child = subprocess.Popen(["sleep", "60"])
    heard: list[str] = []
    when_gone(child.pid, lambda: heard.append("early"))
    time.sleep(0.1)
    assert not heard
    child.kill()
    child.wait()
    until(lambda: heard, "it was not noticed")
    when_gone(child.pid, lambda: heard.append("late"))
    until(lambda: len(heard) > 1, "it was not noticed")
    assert heard == ["early", "late"]


STUBBORN = """
import os, signal, sys, time
from hqclip import task
from hqclip.process_watch import end_this_process
signal.signal(signal.SIGTERM, lambda *_: print("asked", flush=True))
task.GRACE_S = 0.5
task._end_with_runner()
print("ready", flush=True)
while True:
    time.sleep(1)
"""


def test_a_task_is_asked_first_and_ended_by_force_if_it_does_not_listen():
    runner = subprocess.Popen(["sleep", "600"])
    owner = lock.local_name().rpartition(":")[0] + f":{runner.pid}"
    task = subprocess.Popen(
        [sys.executable, "-c", STUBBORN],
        env={**os.environ, lock.LOCAL_RUN: owner},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert task.stdout is not None and task.stdout.readline() == "ready\n"
    runner.kill()
    runner.wait()
    assert task.communicate(timeout=PATIENCE_S)[0] == "asked\n"
    assert task.returncode == 143


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
def test_the_tasks_of_a_run_on_this_machine_end_with_it(tmp_path: Path, how: signal.Signals):
    """The first task waits for ever: for the bytes of a suite that nobody writes."""
    store = tmp_path / "store"
    (store / "runs/a/model").mkdir(parents=True)
    (store / "runs/a/model/README.md").write_text("a model")
    os.mkfifo(tmp_path / "suite.json")
    given = {"store": store, "evaluate_suite": tmp_path / "suite.json", "evaluate_model": "runs/a/model"}
    words = [word for name, value in given.items() for word in ("--set", f"{name}={value}")]
    command = [sys.executable, "-m", "pipelines", "run", "evaluate", "--local", "--out", str(tmp_path / "out"), *words]
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment, nowhere = {**os.environ, "TMPDIR": str(temporary)}, subprocess.DEVNULL
    runner = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=nowhere, stderr=nowhere)
    started: list[psutil.Process] = []

    def has_tasks() -> bool:
        assert runner.poll() is None, "it ended by itself"
        children = psutil.Process(runner.pid).children(recursive=True)
        started[:] = [child for child in children if any("executor_main" in word for word in child.cmdline())]
        return bool(started)

    until(has_tasks, "no task was started")
    try:
        runner.send_signal(how)
        runner.wait(PATIENCE_S)
        until(lambda: not any(map(is_running, started)), f"{started} go on without their runner")
        with scratch_folder(temporary) as mine:  # the next process
            assert list(temporary.iterdir()) == [mine]
        with scratch_folder(tmp_path / "out/tasks") as mine:
            assert list((tmp_path / "out/tasks").glob(".*")) == [mine]
    finally:
        for process in started:
            if is_running(process):
                process.kill()
