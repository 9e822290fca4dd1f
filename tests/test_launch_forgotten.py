"""A name comes back to Volcano only once it has forgotten the job that had it; a job that it lost is not waited for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from hqclip.errors import UnavailableError
from hqclip.launch import forgotten
from hqclip.launch.attempts import begin, end, end_record
from hqclip.launch.exit_status import ExitStatus
from hqclip.launch.job import publish
from hqclip.launch.pods import PodRow
from hqclip.launch.registry import load
from hqclip.launch.run import launch
from hqclip.store import Store, open_store
from tests.fakes.kubernetes import FakeCluster
from tests.launching import CREATE, LOOK, PLURAL, Pods, bare_job, settings, spec

DELETED = 1000.0


class Place:
    """A cluster of which only the pods of the job are known, and the clock."""

    def __init__(self, store: Store) -> None:
        self.store, self.now, self.until = store, DELETED, 0.0

    def time(self) -> float:
        return self.now

    monotonic = time

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def pods(self, *_: object) -> list[PodRow]:
        return [PodRow(0, "j-node-0", "Terminating")] if self.now < self.until else []

    def waited(self, deleted: float | None = None, scheduler: str = "volcano") -> float:
        """Seconds until the name could be given."""
        began = self.now
        forgotten.wait_until_forgotten(self, load(scheduler), self.store, "j", deleted)  # type: ignore[arg-type]
        return self.now - began


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A job was launched there, and its launcher has just been stopped."""
    place = Place(open_store(str(tmp_path)))
    job = publish(place.store, bare_job(str(tmp_path)))
    place.store.write(f"launch/{job.key}/lease.json", json.dumps({"owner": "o", "time": DELETED}).encode())
    monkeypatch.setattr(forgotten, "time", place)
    monkeypatch.setattr(forgotten, "job_pods", place.pods)
    return place


@pytest.mark.parametrize("seconds", [3.0, 40.0])
def test_the_name_is_left_alone_once_more_as_long_as_the_pods_took_to_go(place: Place, seconds: float) -> None:
    place.until = DELETED + seconds
    assert place.waited() == 2 * seconds + forgotten.MARGIN_S


def test_of_pods_that_are_gone_their_agents_tell(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = begin(place.store, "j/1", node=0, attempt="0", pod="p", progress="")
    monkeypatch.setattr(forgotten, "_last_end", lambda *_: DELETED + 4.0)
    place.now = DELETED + 5.0
    assert place.waited() == 2 * 4.0 + forgotten.MARGIN_S - 5.0
    monkeypatch.undo()
    end(place.store, "j/1", begun, end_record(begun, ExitStatus(exit_code=143), "", 2.5))
    assert forgotten._last_end(place.store, "j/1", 0.0) == begun.begun + 2.5


@pytest.mark.parametrize("ago", [60.0, 86400.0])
def test_a_name_that_was_free_for_a_while_is_given_at_once(place: Place, ago: float) -> None:
    place.now += ago
    assert place.waited() == 0


def test_a_failed_job_that_is_replaced_costs_a_moment(place: Place) -> None:
    place.now += 86400.0
    assert place.waited(deleted=place.now) == forgotten.MARGIN_S


def test_pods_that_never_go_are_not_waited_for_forever(place: Place) -> None:
    place.until = DELETED + 1e9
    assert place.waited() <= 2 * forgotten.MOST_S + forgotten.MARGIN_S


def test_who_does_not_keep_names_and_a_name_that_is_new_are_not_waited_for(place: Place, tmp_path: Path) -> None:
    place.until = DELETED + 30.0
    assert place.waited(scheduler="jobset") == 0
    place.store = open_store(str(tmp_path / "other"))
    assert place.waited() == 0


@pytest.mark.usefixtures("at_once")
def test_a_job_whose_controller_lost_it_is_given_up_once_its_pods_have_ended(
    cluster: FakeCluster, pods: Pods, scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hqclip.launch.watch.LOST_S", 0.1)
    plural = PLURAL[scheduler]

    def unseen() -> None:
        names = cluster.start_pods(pods.name)
        cluster.then("GET", LOOK, lambda: [cluster.end_pod(name, 0) for name in names], skip=3)

    cluster.then("POST", CREATE, unseen)
    with pytest.raises(UnavailableError, match=f"was lost by {scheduler}, which calls it pending"):
        launch(spec(tmp_path, scheduler), "train", settings(tmp_path))
    assert cluster.names(plural) == []
