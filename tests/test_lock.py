"""Two runs on one store: the second is told who works there, and nobody waits for a run that is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from hqclip.cycle import lock
from hqclip.cycle.finish import finish
from hqclip.store import open_store
from hqclip.store.local import LocalStore


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def seen(store: LocalStore) -> dict:
    return dict(json.loads(store.read(lock.KEY)))


def grow_old(store: LocalStore, seconds: float) -> None:
    store.write(lock.KEY, json.dumps({**seen(store), "time": time.time() - seconds}).encode(), create_only=False)


def test_a_second_run_is_told_who_works_there(store: LocalStore) -> None:
    assert lock.take(store, "monday", 7) == ""
    assert lock.take(store, "tuesday", 7).startswith("cycle 7 is being refined by run monday (seen ")
    assert seen(store)["owner"] == "monday"


def test_the_same_run_takes_it_again_when_a_task_is_repeated(store: LocalStore) -> None:
    assert lock.take(store, "monday", 7) == lock.take(store, "monday", 7) == ""


def test_when_a_run_has_ended_the_next_one_gets_in(store: LocalStore) -> None:
    lock.take(store, "monday", 7)
    said = finish(store.uri, "FAILED", "out of memory", "monday")
    assert "out of memory" in said
    assert lock.take(store, "tuesday", 8) == ""


def test_only_its_owner_lets_go_of_a_lock(store: LocalStore) -> None:
    lock.take(store, "monday", 7)
    lock.release(store, "tuesday")
    assert seen(store)["owner"] == "monday"
    lock.release(open_store(str(Path(store.uri).parent / "empty")), "tuesday")


def test_a_lock_that_nobody_renews_counts_no_more(store: LocalStore) -> None:
    lock.take(store, "monday", 7)
    grow_old(store, lock.STALE_S - 60)
    assert lock.take(store, "tuesday", 7)
    grow_old(store, lock.STALE_S + 1)
    assert lock.take(store, "tuesday", 7) == ""


def test_while_a_task_works_the_lock_stays_young(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    lock.take(store, "monday", 7)
    grow_old(store, lock.STALE_S + 1)
    with lock.held(store, "monday"):
        deadline = time.monotonic() + 10
        while time.time() - seen(store)["time"] > 60:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    with lock.held(store, "tuesday"):  # lost meanwhile, or never its own: it is left alone
        time.sleep(0.05)
    assert seen(store)["owner"] == "monday"


def test_of_many_that_come_at_once_one_gets_in(store: LocalStore) -> None:
    start, told = threading.Barrier(8), []

    def come(name: str) -> None:
        start.wait()
        told.append(lock.take(store, name, 1))

    threads = [threading.Thread(target=come, args=(f"run-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert told.count("") == 1


def test_a_damaged_lock_keeps_nobody_out(store: LocalStore) -> None:
    store.write(lock.KEY, b"{", create_only=False)
    assert lock.take(store, "monday", 7) == ""


def test_the_lock_of_a_local_run_ends_with_its_process(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, alive = (f"local:{socket.gethostname()}:{pid}" for pid in (gone.pid, os.getpid()))
    assert lock.take(store, dead, 1) == ""
    assert lock.take(store, alive, 1) == ""
    assert "is being refined by run local:" in lock.take(store, "tuesday", 1)
    assert lock.take(store, f"local:elsewhere:{gone.pid}", 1)  # another machine's: nothing is known of it
    monkeypatch.setenv(lock.LOCAL_RUN, alive)
    finish(store.uri, "SUCCEEDED", "", "what Kubeflow calls it")
    assert lock.take(store, "tuesday", 1) == ""
