"""A cycle that starts jobs for its training and judging, with what a platform file gives, and within a budget."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.jobs import SMALL
from tests.cluster.place import LABEL, Place
from tests.cluster.runs import World, applied, ended, pods_with, run_id, started, state, tasks, until

pytestmark = pytest.mark.needs("kubernetes", "kubeflow", "store", "images", "jobset", "overlay")
LAUNCHED = ("--launched", "train,evaluate")
LONG = 640_000  # samples: hours on a small cluster


@pytest.fixture
def platform(place: Place, tmp_path: Path) -> Iterator[Path]:
    """A platform file with a secret, a config map, a volume and a label of the suite's own."""
    name = f"{place.name}-platform"
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"format": "json"}}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {"word": "sesame"}}
    file = place.platform(
        tmp_path / "platform.yaml",
        labels={LABEL: place.name},
        config_env={"HQCLIP_LOG_FORMAT": f"{name}/format"},
        secret_env={"A_WORD": f"{name}/word"},
        volumes=["empty:scratch:/scratch:64Mi"],
    )
    with applied(place, place.kubeflow_namespace, settings, secret):
        yield file


def launch_file(place: Place, **train: Any) -> str:
    """Machines for two cores, in the store: where."""
    common = {name: SMALL[name] for name in ("cpus", "memory", "shm", "patches")}
    wanted = {
        "scheduler": "jobset",
        "image": place.image("train"),
        "train": {**common, "nodes": 2, "nproc": 1, **train},
        "evaluate": {**common, "nodes": 2, "nproc": 1},
    }
    name = f"machines-{len(train)}.yaml"
    place.run(sys.executable, "-c", _WRITE, place.store, name, stdin=yaml.safe_dump(wanted)).ok()
    return f"{place.store}/{name}"


def job_sets(place: Place, run: str) -> list[Mapping[str, Any]]:
    """Those that a run has started and that are still there."""
    words = ("-n", place.kubeflow_namespace, "get", "jobsets", "-o", "json")
    return [each for each in place.kubectl(*words).ok().json["items"] if run in json.dumps(each["metadata"])]


def test_a_launched_cycle(place: Place, world: World, platform: Path) -> None:
    """Training and judging as jobs of two nodes, with a platform file: its secret, settings and volume are in tasks and
    workers; the cycle ends well."""
    inputs = {**world.refine, "store": f"{world.store}-launched", "plan_launch": launch_file(place)}
    run = started(place, "refine", inputs, *LAUNCHED, "--platform", str(platform), "--budget", "1000")
    seen: dict[str, Mapping[str, Any]] = {}

    def both_seen() -> bool:
        for each in job_sets(place, run):
            seen[each["metadata"]["labels"]["hqclip/stage"]] = each
        return len(seen) == 2 or state(place, run) not in ("PENDING", "RUNNING")

    until(both_seen, 900, lambda: str(tasks(place, run)))
    assert set(seen) == {"train", "evaluate"}
    for each in seen.values():
        (group,) = each["spec"]["replicatedJobs"]
        holds(group["template"]["spec"]["template"]["spec"])
    until(lambda: state(place, run) == "SUCCEEDED", 600, lambda: str(tasks(place, run)))
    assert set(tasks(place, run).values()) == {"SUCCEEDED"}

    pods = pods_with(place, run, {LABEL: place.name})
    assert len(pods) >= len(tasks(place, run))
    for pod in pods:
        holds(pod["spec"])
    said = place.pipelines("logs", run, "--task", "train-hqclip").ok().out.splitlines()
    assert any('"who": "train ' in line for line in said), said


def holds(pod: Mapping[str, Any]) -> None:
    """The test fails unless a pod has what the platform file says."""
    (worker,) = [each for each in pod["containers"] if each["name"] in ("main", "worker")]
    env = {each["name"]: each for each in worker["env"]}
    assert env["A_WORD"]["valueFrom"]["secretKeyRef"]["key"] == "word"
    assert env["HQCLIP_LOG_FORMAT"]["valueFrom"]["configMapKeyRef"]["key"] == "format"
    assert "/scratch" in {each["mountPath"] for each in worker["volumeMounts"]}


@pytest.mark.needs("gpus")
def test_a_budget(place: Place, world: World, tmp_path: Path) -> None:
    """A training that passes the budget of its cycle is stopped (76) and its job removed; the next run of the cycle is
    refused by plan, with the figures, before anything begins."""
    inputs = {
        **world.refine,
        "store": f"{world.store}-budget",
        "train_samples_seen": LONG,
        "plan_launch": launch_file(place, nodes=1, gpus=1),
    }
    words = (*LAUNCHED, "--budget", "0.01")
    first = ended(place, "refine", inputs, *words).ended(1)
    why, *_ = place.pipelines("explain", run_id(first), "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("train-hqclip", "budget")
    assert "GPU-hours are more than its budget of 0.01" in why["line"]
    until(lambda: not job_sets(place, run_id(first)), 60)
    again = ended(place, "refine", inputs, *words).ended(1)
    (why,) = place.pipelines("explain", run_id(again), "-o", "json").ok().json["reasons"]
    assert (why["task"], why["reason"]) == ("plan", "budget")
    assert "GPU-hours are more than its budget of 0.01" in why["line"]


_WRITE = """
import sys; from hqclip.store import open_store
open_store(sys.argv[1]).write(sys.argv[2], sys.stdin.buffer.read())
"""
