"""Gangs on each scheduler that is there: trained, broken in every way, adopted, refused, ended, with least rights."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.jobs import LONG, Launcher, a_dataset, as_launcher, job_namespace
from tests.cluster.place import Place
from tests.cluster.runs import World, until

pytestmark = pytest.mark.needs("kubernetes", "store", "images")
SCHEDULERS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("jobset", "volcano")]


@pytest.fixture(scope="module")
def ground(place: Place, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The namespace; a data set to train on, and the launcher's kubeconfig."""
    folder = tmp_path_factory.mktemp("ground")
    with job_namespace(place):
        yield (
            a_dataset(place, World(f"{world.store}-gangs", world.shards, world.suite), folder),
            as_launcher(place, folder),
        )


@pytest.fixture(params=SCHEDULERS)
def launcher(
    request: pytest.FixtureRequest, place: Place, world: World, ground: tuple[str, Path], tmp_path: Path
) -> Iterator[Launcher]:
    """Launches with this scheduler; nothing of it is left behind."""
    dataset, kubeconfig = ground
    launcher = Launcher(place, request.param, f"{world.store}-gangs", dataset, kubeconfig, tmp_path)
    yield launcher
    launcher.clear()


def test_broken_in_every_way(launcher: Launcher, place: Place) -> None:
    """A gang of two goes on after a rank was killed, a pod deleted, its launcher killed; another launcher adopts it,
    and SIGTERM to that one ends the job."""
    first = launcher.train("broken", LONG).says("15 of ")
    pods = launcher.pods()
    assert len(pods) == 2
    place.kubectl("-n", place.namespace, "exec", pods[1], "--", "pkill", "-KILL", "-f", "hqclip.agent.rank").ok()
    first.says("started again 1 times")
    place.kubectl("-n", place.namespace, "delete", "pod", launcher.pods()[0], "--wait=false").ok()
    first.says("started again 2 times")
    first.process.kill()
    second = launcher.train("broken", LONG).says("is there already")
    second.process.send_signal(signal.SIGTERM)
    second.ended(143, 60)
    until(lambda: not launcher.jobs(), 60)


def test_ended_well(launcher: Launcher) -> None:
    """A gang of two trains to its end; the same launch again finds it done."""
    launcher.train("short").ended(0)
    launcher.train("short").ended(0, 120)


def test_other_settings(launcher: Launcher) -> None:
    """Other settings for a run that is alive are refused (73)."""
    launcher.train("alive", LONG).says("pods run")
    launcher.train("alive", {**LONG, "batch_size": 32}).ended(73, 120)


def test_a_bad_image(launcher: Launcher) -> None:
    """An image that does not exist: 64, and the kubelet's words."""
    assert "no-such-image" in launcher.train("image", image="registry.invalid/no-such-image:1").ended(64, 300).said


def test_an_impossible_machine(launcher: Launcher) -> None:
    """A machine that no node is: pending with the reason, 69 after the time limit."""
    said = launcher.train("machine", cpus="900", pending_timeout_s=45).ended(69, 240).said
    assert "cpu" in said.lower()


def test_a_quota(launcher: Launcher, place: Place) -> None:
    """A quota that is used up: pending with the reason, 69 after the time limit."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    place.kubectl("-n", place.namespace, "apply", "-f", "-", stdin=yaml.safe_dump(quota)).ok()
    try:
        assert "exceeded quota" in launcher.train("quota", pending_timeout_s=45).ended(69, 240).said
    finally:
        place.kubectl("-n", place.namespace, "delete", "resourcequota", "none").ok()


def test_a_data_fault(launcher: Launcher) -> None:
    """A data set that is not there: 66 from the rank, and 66 again without starting anything."""
    settings = {"dataset": "datasets/0000000000000000/dataset.json"}
    launcher.train("data", settings).ended(66, 300)
    launcher.train("data", settings).ended(66, 60)


def test_a_field_that_is_not_there(launcher: Launcher) -> None:
    """A slip in a patch is refused by name (64)."""
    patch = '[{"target": "pod", "patch": {"spec": {"tolerationz": []}}}]'
    assert "tolerationz" in launcher.train("patch", patches=patch).ended(64, 60).said


def test_a_lost_lease(launcher: Launcher) -> None:
    """A launcher that is gone for good: the workers stop by themselves, and the next launch goes on."""
    launcher.train("lease", LONG, lease_stale_s=60).says("15 of ").process.kill()
    until(lambda: not launcher.pods(), 240)
    again = launcher.train("lease", LONG, lease_stale_s=60)
    again.says(" of ")
    assert "nobody watched" in again.said or "lease" in again.said


def test_what_operators_have(launcher: Launcher, place: Place) -> None:
    """jobs list, logs, cancel; the janitor leaves what is watched."""
    launcher.train("verbs", LONG).says("10 of ")
    (job,) = launcher.jobs()
    assert (job["phase"], job["pods_running"]) == ("running", 2)
    logs = place.hqclip("jobs", "logs", "--namespace", place.namespace, "--job", job["job"]).ok()
    assert "hqclip train" in logs.err
    assert place.hqclip("jobs", "gc", "--namespace", place.namespace, "--dry-run", "true").ok().json["deleted"] == []
    place.hqclip("jobs", "cancel", "--namespace", place.namespace, "--job", job["job"]).ok()
    until(lambda: not launcher.pods(), 120)


@pytest.mark.needs("kueue")
def test_a_queue_that_is_not_there(launcher: Launcher) -> None:
    """A local queue of Kueue that does not exist is named as the reason."""
    if launcher.scheduler != "jobset":
        pytest.skip("Kueue's queues are for JobSets")
    assert "doesn't exist" in launcher.train("queue", queue="nope", pending_timeout_s=45).ended(69, 240).said
