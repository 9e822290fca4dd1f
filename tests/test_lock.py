"""Two runs on one store: the second is told who works there, and nobody waits for a run that is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle import lock
from hqclip.cycle.finish import finish
from hqclip.store import ObjectInfo, open_store
from hqclip.store.local import LocalStore
from tests.fakes.gcs import FakeGcs


class Clocked(LocalStore):
    """A folder whose clock somebody turns; nobody else's clock has a say."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.now, self.times = 1e9, dict[str, float]()

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        self.times[key] = self.now
        return super().write(key, data, create_only=create_only)

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        self.times[key] = self.now
        return super().swap(key, data, expected=expected)

    def changed_at(self, key: str) -> float | None:
        return self.times.get(key)


@pytest.fixture
def store(tmp_path: Path) -> Clocked:
    return Clocked(tmp_path / "store")


def seen(store: LocalStore) -> dict:
    return dict(json.loads(store.read(lock.KEY)))


def say(store: LocalStore, **more: Any) -> None:
    """Change what the lock says."""
    store.write(lock.KEY, json.dumps({**seen(store), **more}).encode(), create_only=False)


def test_a_second_run_is_told_who_works_there(store: LocalStore) -> None:
    assert lock.take(store, "monday", 7) == ""
    assert lock.take(store, "tuesday", 7).startswith("cycle 7 is being refined by run monday (seen ")
    assert seen(store)["owner"] == "monday"


def test_the_same_run_takes_it_again_when_a_task_is_repeated(store: LocalStore) -> None:
    assert lock.take(store, "monday", 7) == lock.take(store, "monday", 7) == ""


def test_when_a_run_has_ended_the_next_one_gets_in(store: LocalStore) -> None:
    lock.take(store, "monday", 7)
    assert "no model is in force yet" in finish(store.uri, "monday")
    assert lock.take(store, "tuesday", 8) == ""


def test_only_its_owner_lets_go_of_a_lock(store: LocalStore) -> None:
    lock.take(store, "monday", 7)
    lock.release(store, "tuesday")
    assert seen(store)["owner"] == "monday"
    lock.release(open_store(str(Path(store.uri).parent / "empty")), "tuesday")


def test_a_lock_that_nobody_renews_counts_no_more(store: Clocked) -> None:
    lock.take(store, "monday", 7)
    store.now += lock.STALE_S - 60
    assert lock.take(store, "tuesday", 7).endswith("run monday (seen 1740 s ago)")
    store.now += 61
    assert lock.take(store, "tuesday", 7) == ""


@pytest.mark.parametrize("wrong_s", [1e9, 3600.0, -3600.0, -1e9])
def test_a_pod_whose_clock_is_wrong_neither_locks_for_ever_nor_loses_its_lock(
    store: Clocked, wrong_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = time.time
    monkeypatch.setattr(time, "time", lambda: right() + wrong_s)
    lock.take(store, "monday", 7)
    monkeypatch.undo()
    store.now += lock.STALE_S - 1
    assert lock.take(store, "tuesday", 7), "it works, whatever its clock says"
    store.now += 2
    assert lock.take(store, "tuesday", 7) == "", "it is gone, whatever its clock said"


@pytest.mark.parametrize("time_said", ["yesterday", None, [], {}, "inf", 1e400])
def test_the_time_in_a_lock_is_for_people(store: Clocked, time_said: Any) -> None:
    lock.take(store, "monday", 7)
    say(store, time=time_said)
    assert lock.take(store, "tuesday", 7)


def test_a_lock_out_of_a_future_that_the_clock_of_the_store_was_put_back_from_counts_no_more(store: Clocked) -> None:
    lock.take(store, "monday", 7)
    store.now -= lock.STALE_S - 1
    assert lock.take(store, "tuesday", 7).endswith("(seen 0 s ago)")
    store.now -= 2
    assert lock.take(store, "tuesday", 7) == ""


def test_a_lock_is_as_old_as_the_clock_of_the_store_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real folder and a real client, whose processes may set the times of files as they like."""
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        for store in (LocalStore(tmp_path / "real"), open_store("gs://bucket/store")):
            assert store.changed_at(lock.KEY) is None
            assert lock.take(store, "monday", 7) == ""
            if isinstance(store, LocalStore):
                os.utime(store.root / lock.KEY, (0, 0))
            assert lock.take(store, "tuesday", 7)
            monkeypatch.setattr(lock, "STALE_S", 0.0)
            assert lock.take(store, "tuesday", 7) == ""
            monkeypatch.setattr(lock, "STALE_S", 1800.0)


def test_a_version_that_trusts_the_time_in_a_lock_still_reads_it(store: Clocked) -> None:
    lock.take(store, "monday", 7)
    found = seen(store)
    assert (found["owner"], found["cycle"]) == ("monday", 7)
    assert abs(time.time() - float(found["time"])) < 60


def test_while_a_task_works_the_lock_stays_young(store: Clocked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT_S", 0.01)
    lock.take(store, "monday", 7)
    store.now += lock.STALE_S + 1
    with lock.held(store, "monday"):
        deadline = time.monotonic() + 60
        while store.times[lock.KEY] < store.now:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert lock.take(store, "tuesday", 7)
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


@pytest.mark.parametrize(
    "damaged",
    [
        *(b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"{}"),
        *(b'{"owner": "x"}', b'{"cycle": 1}', b'{"owner": "x", "cycle": "1"}', b'{"owner": null, "cycle": 1}'),
        *(b'{"owner": "x", "time": 9e99}', b'{"owner": ["x"], "cycle": 1, "time": 1}'),
    ],
)
def test_a_damaged_or_incomplete_lock_keeps_nobody_out(
    store: LocalStore, damaged: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    store.write(lock.KEY, damaged, create_only=False)
    lock.release(store, "x")
    with lock.held(store, "x"):
        pass
    assert store.read(lock.KEY) == damaged
    assert lock.take(store, "monday", 7) == ""
    assert f"{store.uri}/{lock.KEY} is " in capsys.readouterr().err
    assert lock.take(store, "tuesday", 7)


def test_the_lock_of_a_local_run_ends_with_its_process(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, alive = (f"local:{socket.gethostname()}:{pid}" for pid in (gone.pid, os.getpid()))
    assert lock.take(store, dead, 1) == ""
    assert lock.take(store, alive, 1) == ""
    assert "is being refined by run local:" in lock.take(store, "tuesday", 1)
    assert lock.take(store, f"local:elsewhere:{gone.pid}", 1)  # another machine's: nothing is known of it
    monkeypatch.setenv(lock.LOCAL_RUN, alive)
    finish(store.uri, "what Kubeflow calls it")
    assert lock.take(store, "tuesday", 1) == ""
