"""A name comes back to Volcano only once it has forgotten the job that had it; a job that it lost is not waited for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import UnavailableError
from hqclip.launch import forgotten
from hqclip.launch.attempts import begin, end, end_record
from hqclip.launch.exit_status import ExitStatus
from hqclip.launch.forgotten import BLUR_S, wait_until_forgotten
from hqclip.launch.job import publish
from hqclip.launch.pods import PodRow
from hqclip.launch.registry import load
from hqclip.launch.run import launch
from hqclip.launch.schedulers.protocol import PENDING, State
from hqclip.launch.watch import Watch
from hqclip.store import Store, open_store
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, Pods, bare_job, settings, spec

DELETED = 1000.0
GRACE_S = 120.0


class Place:
    """A cluster of which only the pods of the last job are known, and the clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.now, self.until = store, DELETED, 0.0
        self.metadata: dict[str, Any] = {"deletionTimestamp": "1970-01-01T00:18:40Z", "deletionGracePeriodSeconds": 120}

    def time(self) -> float:
        return self.now

    monotonic = time

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def list(self, *_: object, **__: object) -> list[Any]:
        return [{"metadata": self.metadata}] if self.now < self.until else []

    def waited(self, deleted: float | None = None, scheduler: str = "volcano") -> float:
        """Seconds until the name could be given."""
        began = self.now
        wait_until_forgotten(self, load(scheduler), self.store, "j", GRACE_S, deleted)  # type: ignore[arg-type]
        return self.now - began

    def lease(self, at: float) -> None:
        """A launcher watched the job then."""
        lease = json.dumps({"owner": "o", "time": at}).encode()
        self.store.write("launch/j/1/lease.json", lease, create_only=False)

    def agent(self, node: int, ended: float | None) -> None:
        """An agent that began before all of this and ended then; None for one that was killed."""
        begun = begin(self.store, "j/1", node=node, attempt="0", pod="p", progress="")
        said = {"node": node, "attempt": "0", "pod": "p", "time": 900.0, "progress": ""}
        self.store.write(f"launch/j/1/attempts/{begun.name}.json", json.dumps(said).encode(), create_only=False)
        if ended is not None:
            end(self.store, "j/1", begun, end_record(begun, ExitStatus(exit_code=143), "", ended - 900.0))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A job was launched there and deleted at 1,000 s, which is now; the last look at it was then."""
    place = Place(open_store(str(tmp_path)))
    publish(place.store, bare_job(str(tmp_path)))
    place.lease(DELETED)
    monkeypatch.setattr(forgotten, "time", place)
    monkeypatch.setattr(forgotten, "job_pods", lambda *_: place.list())
    return place


@pytest.mark.parametrize("seconds", [3.0, 40.0, 120.0])
@pytest.mark.parametrize("lease", [0.0, DELETED - 5, DELETED + 1e6, None])
def test_the_name_is_left_alone_once_more_as_long_as_the_pods_took_to_go(
    place: Place, seconds: float, lease: float | None
) -> None:
    if lease is None:
        place.store.delete("launch/j/1/lease.json")
    else:
        place.lease(lease)
    place.now, place.until = DELETED + 1.0, DELETED + seconds  # they say when they were told to end
    assert 2 * seconds <= place.waited() + 1.0 <= 2 * (seconds + forgotten.POLL_S) + forgotten.MARGIN_S


def test_of_pods_that_are_gone_their_agents_tell(place: Place) -> None:
    place.agent(0, DELETED + 4.0)
    place.agent(1, DELETED + 7.0)
    place.now = DELETED + 20.0
    assert place.waited() == 7.0 + BLUR_S + 7.0 + BLUR_S + BLUR_S - 20.0


@pytest.mark.parametrize("damage", [False, True])
def test_of_an_agent_that_was_killed_or_tells_nothing_the_longest_is_assumed(place: Place, damage: bool) -> None:
    place.agent(0, DELETED + 4.0)
    place.agent(1, DELETED + 5.0 if damage else None)
    if damage:
        place.store.write("launch/j/1/attempts/1-0001.json", b"{", create_only=False)
    place.now = DELETED + 122.0
    assert place.waited() == 2 * (GRACE_S + BLUR_S) + BLUR_S - 122.0


@pytest.mark.parametrize("ago", [2 * (GRACE_S + BLUR_S) + BLUR_S + 1, 86400.0])
def test_a_name_that_was_free_for_a_while_is_given_at_once_whatever_is_left(place: Place, ago: float) -> None:
    place.store.write("launch/j/1/attempts/0-0001.json", b"{")
    place.now += ago
    assert place.waited() == 0


def test_a_failed_job_that_is_replaced_costs_a_moment(place: Place) -> None:
    place.now += 86400.0
    assert place.waited(deleted=place.now - 2.0) == 2.0 + forgotten.MARGIN_S


def test_a_lease_of_a_clock_that_is_ahead_does_not_keep_everybody_waiting(place: Place) -> None:
    place.agent(0, DELETED)
    place.lease(DELETED + 1e6)
    assert place.waited() <= 3 * BLUR_S


def test_pods_that_never_go_are_not_waited_for_forever(place: Place) -> None:
    place.until = DELETED + 1e9
    assert place.waited() <= forgotten.MOST_S + forgotten.POLL_S


def test_who_does_not_keep_names_and_a_name_that_is_new_are_not_waited_for(place: Place, tmp_path: Path) -> None:
    place.until = DELETED + 30.0
    assert place.waited(scheduler="jobset") == 0
    place.until, place.store = 0.0, open_store(str(tmp_path / "other"))
    assert place.waited() == 0


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("scheduler", ["volcano"])
@pytest.mark.parametrize("phase", ["Pending", "Running", "Restarting"])
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_job_whose_controller_lost_it_is_given_up_once_its_pods_have_ended(
    cluster: FakeCluster, pods: Pods, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str, exit_code: int
) -> None:
    monkeypatch.setattr("hqclip.launch.watch.LOST_S", 0.1)

    def unseen() -> None:
        names = cluster.start_pods(pods.name)
        pods.phase(phase)
        for name in names:
            cluster.end_pod(name, exit_code)

    cluster.then("POST", CREATE, unseen)
    said = f"was lost by volcano, which calls it {phase.lower()} 0 s after all its pods have ended"
    with pytest.raises(UnavailableError, match=said):
        launch(spec(tmp_path, "volcano"), "train", settings(tmp_path))
    assert cluster.names("jobs") == []


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("scheduler", "reason"), [("volcano", "ImagePullBackOff"), ("volcano", ""), ("jobset", "Error")]
)
def test_a_job_that_only_waits_is_not_lost(pods: Pods, tmp_path: Path, scheduler: str, reason: str) -> None:
    now = iter([0.0, 1e6])
    watch = Watch(None, load(scheduler), spec(tmp_path, scheduler), pods.store, clock=lambda: next(now))  # type: ignore[arg-type]
    rows = [PodRow(0, "j-node-0", reason)] if reason else []
    for _ in range(2):
        assert watch._is_lost(bare_job(str(tmp_path)), State(PENDING), rows) is None


@pytest.mark.usefixtures("at_once")
@pytest.mark.timeout(60)
def test_a_name_that_is_taken_by_something_that_nobody_sees_is_given_up(
    cluster: FakeCluster, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hqclip.launch.submit.GONE_S", 0.3)
    cluster.fail("POST", CREATE, 409, times=1_000_000, reason="AlreadyExists")
    with pytest.raises(UnavailableError, match="is still not gone after"):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
