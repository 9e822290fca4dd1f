"""Gangs on each scheduler that is there: trained, refused, disturbed in every way, adopted, ended, with least rights.

One long training is disturbed by case after case; whichever finds it unwatched launches it again.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator

import pytest

from tests.cluster.jobs import LONG, Ground, Launcher, job_namespace, kill_a_rank, make_ground, served
from tests.cluster.place import Place
from tests.cluster.runs import World, applied, until

pytestmark = pytest.mark.needs("kubernetes", "store", "images")
SCHEDULERS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("jobset", "volcano")]
KUEUE = pytest.param("jobset", marks=pytest.mark.needs("jobset", "kueue"))
VOLCANO = pytest.param("volcano", marks=pytest.mark.needs("volcano"))


@pytest.fixture(scope="module")
def ground(place: Place, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """In a namespace that enforces Pod Security restricted, so that every case says that jobs keep it."""
    with job_namespace(place):
        yield make_ground(
            place, World(f"{world.store}-gangs", world.shards, world.suite), tmp_path_factory.mktemp("ground")
        )


@pytest.fixture(scope="module", params=SCHEDULERS)
def launcher(
    request: pytest.FixtureRequest, ground: Ground, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Launcher]:
    """Launches with this scheduler; nothing of it is left behind."""
    launcher = Launcher(ground, request.param, tmp_path_factory.mktemp(request.param))
    try:
        yield launcher
    finally:
        launcher.clear()


def test_ended_well(launcher: Launcher) -> None:
    """A gang of two trains to its end; the same launch again finds it done."""
    launcher.train("short").ended(0)
    again = launcher.train("short").ended(0, 60)
    assert "is there already (succeeded)" in again.said


def test_replicas(launcher: Launcher) -> None:
    """Two replicas annotate a pool; both of them begin once, and the job ends well."""
    said = launcher.annotate().ended(0).said
    (key,) = re.findall(r'"key": "(.+?)"', said)
    begun = [name for name in launcher.ground.keys(f"launch/{key}/attempts/") if not name.endswith(".end.json")]
    assert {name.rpartition("/")[2] for name in begun} == {"0-0001.json", "1-0001.json"}


def test_a_data_fault(launcher: Launcher) -> None:
    """A data set that is not there: 66 from the rank, and 66 again without starting anything."""
    settings = {"dataset": "datasets/0000000000000000/dataset.json"}
    launcher.train("data", settings).ended(66)
    again = launcher.train("data", settings).ended(66, 60)
    assert "is there already (failed)" in again.said


def test_a_field_that_is_not_there(launcher: Launcher) -> None:
    """A slip in a patch is refused by name (64)."""
    patch = '[{"target": "pod", "patch": {"spec": {"tolerationz": []}}}]'
    assert "tolerationz" in launcher.train("patch", patches=patch).ended(64, 60).said


def test_a_bad_image(launcher: Launcher) -> None:
    """An image that does not exist: 64 after a minute, and the kubelet's words."""
    assert "no-such-image" in launcher.train("image", image="registry.invalid/no-such-image:1").ended(64).said


def test_an_impossible_machine(launcher: Launcher) -> None:
    """A machine that no node is: pending with the reason, 69 after the time limit."""
    said = launcher.train("machine", cpus="900", patches="[]", pending_timeout_s=20).ended(69).said
    assert "cpu" in said.lower().partition("got no machines")[2]


def test_a_quota(launcher: Launcher, place: Place) -> None:
    """A quota that is used up: pending with the reason, 69 after the time limit."""
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}}
    with applied(place, place.namespace, quota):
        said = launcher.train("quota", pending_timeout_s=20).ended(69).said
    assert "exceeded quota" in said.partition("got no machines")[2]


@pytest.mark.parametrize("launcher", [KUEUE], indirect=True)
def test_a_queue_that_is_not_there(launcher: Launcher) -> None:
    """A local queue of Kueue that does not exist is named as the reason."""
    said = launcher.train("no-queue", queue="nope", pending_timeout_s=20).ended(69).said
    assert "LocalQueue nope doesn't exist" in said


@pytest.mark.parametrize("launcher", [KUEUE], indirect=True)
def test_a_full_queue_of_kueue(launcher: Launcher, place: Place) -> None:
    """A queue of Kueue with quota for one of two pods: none is started, and the reason is said."""
    with applied(place, place.namespace, *kueue_queue(place, cpus="600m")):
        said = launcher.train("full-queue", queue=place.name, pending_timeout_s=20).ended(69).said
    assert "couldn't assign flavors" in said
    assert "0 of 2 pods run" in said and "1 of 2 pods run" not in said


@pytest.mark.parametrize("launcher", [KUEUE], indirect=True)
def test_a_queue_of_kueue(launcher: Launcher, place: Place) -> None:
    """A queue of Kueue with room lets a gang of two in, which trains to its end."""
    with applied(place, place.namespace, *kueue_queue(place, cpus="2")):
        launcher.train("queue", queue=place.name).ended(0)


def kueue_queue(place: Place, cpus: str) -> list[dict[str, object]]:
    """A local queue with so many cores, and what it stands on."""
    version, named = served(place, "kueue.x-k8s.io"), {"name": place.name}
    resources = [{"name": "cpu", "nominalQuota": cpus}, {"name": "memory", "nominalQuota": "64Gi"}]
    group = {"coveredResources": ["cpu", "memory"], "flavors": [{**named, "resources": resources}]}
    return [
        {"apiVersion": version, "kind": "ResourceFlavor", "metadata": dict(named)},
        {
            "apiVersion": version,
            "kind": "ClusterQueue",
            "metadata": dict(named),
            "spec": {"namespaceSelector": {}, "resourceGroups": [group]},
        },
        {
            "apiVersion": version,
            "kind": "LocalQueue",
            "metadata": {**named, "namespace": place.namespace},
            "spec": {"clusterQueue": place.name},
        },
    ]


@pytest.mark.parametrize("launcher", [VOLCANO], indirect=True)
def test_a_full_queue_of_volcano(launcher: Launcher, place: Place) -> None:
    """A queue of Volcano with room for one of two pods: none is started, and the reason is said."""
    queue = {
        "apiVersion": served(place, "scheduling.volcano.sh"),
        "kind": "Queue",
        "metadata": {"name": place.name},
        "spec": {"weight": 1, "capability": {"cpu": "600m"}},
    }
    with applied(place, place.namespace, queue):
        said = launcher.train("full-queue", queue=place.name, pending_timeout_s=20).ended(69).said
    assert re.search("queue resource quota insufficient|overused", said), said
    assert "0 of 2 pods run" in said and "1 of 2 pods run" not in said


def test_other_settings(launcher: Launcher) -> None:
    """Other settings for a run that is alive are refused (73)."""
    launcher.watched().says("2 of 2 pods run")
    launcher.train("long", {**LONG, "batch_size": 32}, lease_stale_s=60).ended(73, 60)


def test_what_operators_have(launcher: Launcher, place: Place) -> None:
    """jobs list and logs of what runs; the janitor leaves what is watched."""
    launcher.watched().says(" steps, ")
    job = launcher.job()
    assert (job["scheduler"], job["pods_running"]) == (launcher.scheduler, 2)
    logs = place.hqclip("jobs", "logs", "--namespace", place.namespace, "--job", job["job"]).ok()
    assert " steps, " in logs.err
    left = place.hqclip("jobs", "gc", "--namespace", place.namespace, "--dry-run").ok().json
    assert (left["deleted"], left["not_judged"]) == ({}, {})


def test_a_killed_rank(launcher: Launcher, place: Place) -> None:
    """A rank is killed: the gang is started again and goes on from its checkpoint."""
    training = launcher.watched().says(" steps, ")
    before, known = set(launcher.pods()), training.said.count(" continues at step ")
    kill_a_rank(place, max(before))
    training.says(" continues at step ", times=known + 1)
    assert "started again" in training.said


def test_a_deleted_pod(launcher: Launcher, place: Place) -> None:
    """A pod is deleted, as by a node that is drained: the gang is started again and goes on from its checkpoint."""
    training = launcher.watched().says(" steps, ")
    known = training.said.count(" continues at step ")
    place.kubectl("-n", place.namespace, "delete", "pod", launcher.pods()[0], "--wait=false").ok()
    training.says(" continues at step ", times=known + 1)


def test_adopted(launcher: Launcher) -> None:
    """A launcher is killed: the gang goes on, and another launcher follows it."""
    first = launcher.watched().says(" steps, ")
    pods = launcher.pods()
    first.process.kill()
    first.process.wait()
    second = launcher.watched().says("is there already (running) and is followed").says(" steps, ")
    assert second is not first
    assert launcher.pods() == pods


def test_a_lost_lease(launcher: Launcher) -> None:
    """A launcher is gone for good: the workers stop by themselves, and the next launch goes on from a checkpoint."""
    first = launcher.watched().says(" steps, ")
    first.process.kill()
    first.process.wait()
    until(lambda: not launcher.pods(), 110)
    launcher.watched().says("has failed before and is started anew").says(" continues at step ")


def test_terminated(launcher: Launcher) -> None:
    """SIGTERM to the launcher (143) ends the job and its pods."""
    training = launcher.watched().says("2 of 2 pods run")
    training.process.send_signal(signal.SIGTERM)
    training.ended(143, 60)
    until(lambda: not [job for job in launcher.jobs() if job["phase"] == "running"] and not launcher.pods(), 60)


def test_cancelled(launcher: Launcher, place: Place) -> None:
    """jobs cancel ends job and pods, and its launcher says so (75)."""
    training = launcher.watched().says("2 of 2 pods run")
    place.hqclip("jobs", "cancel", "--namespace", place.namespace, "--job", launcher.job()["job"]).ok()
    assert "was deleted by somebody else" in training.ended(75, 60).said
    until(lambda: not launcher.pods(), 60)
