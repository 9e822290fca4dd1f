"""Which replica works on which shard, with watches that disagree and holders that sleep."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip.annotate import claims as claims_module
from hqclip.annotate.claims import Claims
from hqclip.store.local import LocalStore


class Watch:
    """A clock that somebody turns."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def replica(folder: Path, name: str, watch: Watch | None = None) -> Claims:
    return Claims(LocalStore(folder), "claims", stale_s=60, owner=name, clock=watch or Watch())


def test_a_shard_is_held_by_one(tmp_path: Path):
    ann, bob = replica(tmp_path, "ann"), replica(tmp_path, "bob")
    assert ann.take("00000")
    assert not bob.take("00000")
    assert bob.take("00001")
    ann.release("00000")
    assert bob.take("00000")


def test_a_claim_that_beats_is_never_stale(tmp_path: Path):
    watch = Watch()
    ann, bob = replica(tmp_path, "ann"), replica(tmp_path, "bob", watch)
    ann.take("00000")
    for _ in range(10):
        assert not bob.take("00000")
        watch.now += 59
        assert ann.beat() == []


def test_who_sleeps_through_its_claim_loses_it_and_notices(tmp_path: Path):
    watch = Watch()
    ann, bob = replica(tmp_path, "ann"), replica(tmp_path, "bob", watch)
    ann.take("00000")
    assert not bob.take("00000")
    watch.now = 61
    assert bob.take("00000")
    assert ann.beat() == ["00000"]
    assert ann.beat() == []
    ann.release("00000")  # no longer its to give back
    assert not replica(tmp_path, "cid").take("00000")
    assert bob.beat() == []


def test_a_claim_is_not_stale_for_who_has_just_come(tmp_path: Path):
    """However old it is: nobody knows how long it has been quiet until one has watched it."""
    late = Watch(1e9)
    replica(tmp_path, "ann").take("00000")
    bob = replica(tmp_path, "bob", late)
    assert not bob.take("00000")
    late.now += 61
    assert bob.take("00000")


def test_clocks_that_disagree_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The time in a claim is for people; a holder whose clock is a day behind keeps its shard."""
    monkeypatch.setattr(claims_module.time, "time", lambda: 0.0)
    ann = replica(tmp_path, "ann")
    ann.take("00000")
    monkeypatch.setattr(claims_module.time, "time", lambda: 1e10)
    watch = Watch()
    bob = replica(tmp_path, "bob", watch)
    assert not bob.take("00000")
    watch.now = 59
    assert not bob.take("00000")


def test_of_two_that_take_a_stale_claim_one_gets_it(tmp_path: Path):
    watch = Watch()
    ann, bob, cid = replica(tmp_path, "ann"), replica(tmp_path, "bob", watch), replica(tmp_path, "cid", watch)
    ann.take("00000")
    assert not bob.take("00000")
    assert not cid.take("00000")
    watch.now = 61
    assert [bob.take("00000"), cid.take("00000")] == [True, False]


def test_everything_can_be_given_back_at_once(tmp_path: Path):
    ann = replica(tmp_path, "ann")
    for name in ("00000", "00001"):
        ann.take(name)
    ann.release_all()
    assert list(LocalStore(tmp_path).list("claims/")) == []
