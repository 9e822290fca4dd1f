"""A launcher that is there, one that is gone, and a store between them that fails."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from hqclip.errors import TerminatedError, UnavailableError
from hqclip.interruption import Interruption, interruptible
from hqclip.launch.lease import LeaseKeeper, LeaseWatch
from hqclip.store import ObjectInfo
from hqclip.store.local import LocalStore

PATIENCE_S = 120.0


class Watch:
    """A clock that somebody turns."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Away(LocalStore):
    """A store that nobody reaches while `away`."""

    away = False

    def stat(self, key: str) -> ObjectInfo | None:
        self._refuse()
        return super().stat(key)

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        self._refuse()
        return super().write(key, data, create_only=create_only)

    def _refuse(self) -> None:
        if self.away:
            raise UnavailableError("no answer")


def watch(store: LocalStore, clock: Watch) -> LeaseWatch:
    return LeaseWatch(store, "j", stale_s=60, lost=lambda: None, clock=clock)


def test_a_lease_that_changes_is_never_stale(tmp_path: Path):
    clock, store = Watch(), LocalStore(tmp_path)
    keeper, agent = LeaseKeeper(store, "j", interval_s=5), watch(store, clock)
    for _ in range(10):
        keeper.renew()
        agent.look()
        clock.now += 60
        assert not agent.is_stale()


def test_a_lease_that_stays_the_same_is_stale_however_old_the_clock_in_it_says_it_is(tmp_path: Path):
    clock, store = Watch(1e9), LocalStore(tmp_path)
    store.write("launch/j/lease.json", b'{"owner": "x", "beat": 1, "time": 0}')
    agent = watch(store, clock)
    agent.look()
    clock.now += 60
    agent.look()
    assert not agent.is_stale()
    clock.now += 1
    assert agent.is_stale()


def test_a_lease_that_nobody_wrote_is_stale_after_the_same_time(tmp_path: Path):
    clock = Watch()
    agent = watch(LocalStore(tmp_path), clock)
    agent.look()
    assert not agent.is_stale()
    clock.now = 61
    assert agent.is_stale()


def test_a_store_that_is_away_for_a_moment_changes_nothing_and_for_long_is_a_launcher_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    clock, store = Watch(), Away(tmp_path)
    keeper, agent = LeaseKeeper(store, "j", interval_s=5), watch(store, clock)
    keeper.renew()
    agent.look()
    store.away = True
    clock.now = 59
    keeper.renew()
    agent.look()
    assert not agent.is_stale()
    assert capsys.readouterr().err.splitlines() == [
        "hqclip launch: the lease was not renewed: no answer",
        "hqclip agent: the lease cannot be read: no answer",
    ]
    store.away = False
    keeper.renew()
    agent.look()
    store.away = True
    clock.now = 118
    assert not agent.is_stale()
    clock.now = 120
    agent.look()
    assert agent.is_stale()


def test_a_keeper_renews_at_its_pace_and_leaves_the_lease(tmp_path: Path):
    pauses: list[float] = []
    done = threading.Event()

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 4:
            done.set()
            return True
        return False

    with LeaseKeeper(LocalStore(tmp_path), "j", interval_s=5, owner="ann", wait=wait):
        assert done.wait(PATIENCE_S)
    lease = json.loads((tmp_path / "launch/j/lease.json").read_bytes())
    assert (lease["owner"], lease["beat"], pauses) == ("ann", 4, [5, 5, 5, 5])


def test_a_launcher_that_is_stopped_while_it_writes_the_lease_stops(tmp_path: Path):
    class Stopping(LocalStore):
        def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
            raise Interruption(TerminatedError("stopped, and the job with it"))

    with pytest.raises(TerminatedError), interruptible(), LeaseKeeper(Stopping(tmp_path), "j/1", interval_s=10):
        pytest.fail("it went on")


def test_an_agent_hears_once_that_the_launcher_is_gone(tmp_path: Path):
    heard: list[str] = []
    told = threading.Event()

    def lost() -> None:
        heard.append("lost")
        told.set()

    with LeaseWatch(LocalStore(tmp_path), "j", stale_s=0.05, lost=lost):
        assert told.wait(PATIENCE_S)
        assert not threading.Event().wait(0.2)
    assert heard == ["lost"]


def test_a_slow_store_does_not_keep_an_agent_from_noticing(tmp_path: Path):
    answer, told = threading.Event(), threading.Event()

    class Slow(LocalStore):
        def stat(self, key: str) -> ObjectInfo | None:
            answer.wait(PATIENCE_S)
            return super().stat(key)

    with LeaseWatch(Slow(tmp_path), "j", stale_s=0.05, lost=told.set):
        assert told.wait(PATIENCE_S / 2)
        answer.set()


def test_without_a_limit_nothing_is_watched(tmp_path: Path):
    before = threading.active_count()
    with LeaseWatch(LocalStore(tmp_path), "j", stale_s=0, lost=lambda: None):
        assert threading.active_count() == before
