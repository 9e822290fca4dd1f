"""Runs that do not end by themselves: kept out, a pod lost, terminated, cancelled, refused."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.cluster.place import Place
from tests.cluster.runs import World, ended, is_free, pods_of, run_id, started, state, tasks, terminate, until

pytestmark = pytest.mark.needs("kubernetes", "kubeflow", "store", "images")
LONG = 640_000  # samples: hours on a small cluster


@pytest.fixture(scope="module")
def busy(place: Place, world: World) -> World:
    """A store of its own, whose training takes for ever."""
    return World(f"{world.store}-busy", world.shards, world.suite)


@pytest.fixture
def training(place: Place, busy: World) -> Iterator[str]:
    """A run that trains."""
    run = started(place, "refine", {**busy.refine, "train_samples_seen": LONG})
    try:
        until(lambda: tasks(place, run).get("train-hqclip") == "RUNNING" and pods_of(place, run, "train"), 600)
        yield run
    finally:
        terminate(place, run)


def test_terminated(place: Place, busy: World, training: str) -> None:
    """In training: a second run is kept out and says by whom; a deleted pod comes back; terminated by the API, the
    store is free within two minutes."""
    second = ended(place, "refine", {**busy.refine, "train_samples_seen": LONG})
    second.ok()
    assert training in second.err

    (pod,) = pods_of(place, training, "train")
    place.kubectl("delete", "pod", pod, "-n", place.kubeflow_namespace, "--wait=false").ok()
    until(lambda: set(pods_of(place, training, "train")) - {pod}, 300)
    assert tasks(place, training)["train-hqclip"] in ("RUNNING", "PENDING")  # a pod that was lost is no failure

    terminate(place, training)
    until(lambda: is_free(place, busy.store), 150)
    until(lambda: state(place, training) == "CANCELED", 120)


def test_cancelled(place: Place, busy: World, training: str) -> None:
    """cancel: the run ends, and the store is free at once."""
    place.pipelines("cancel", training).ok()
    assert is_free(place, busy.store)
    until(lambda: not pods_of(place, training, "train"), 120)
    until(lambda: state(place, training) == "CANCELED", 120)


def test_a_shard_that_is_missing(place: Place, world: World) -> None:
    """A shard that is missing: 1, and --wait and explain name the task, the shard and the next command."""
    done = ended(place, "refine", {**world.refine, "download_shards": f"{world.store}/no/{{00000..00001}}.tar"})
    done.ended(1)
    (why,) = place.pipelines("explain", run_id(done), "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("plan", "not_found")
    assert "00000.tar" in why["line"]
    assert "00000.tar" in done.err
    assert why["next"].startswith("python -m pipelines ")
    place.pipelines(*shlex.split(why["next"])[3:]).ok()


def test_explained_when_its_pods_are_gone(place: Place, world: World) -> None:
    """explain and logs, once the pods are gone."""
    done = ended(place, "refine", {**world.refine, "evaluate_suite": f"{world.store}/no/suite.json"})
    done.ended(1)
    run = run_id(done)
    place.kubectl("delete", "pods", "-n", place.kubeflow_namespace, "-l", f"pipeline/runid={run}", "--wait=true").ok()
    (why,) = place.pipelines("explain", run, "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("plan", "not_found")
    assert "suite.json" in place.pipelines("logs", run, "--task", "plan").ok().out
