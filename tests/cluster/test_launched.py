"""A cycle that starts jobs for its training and judging, with what a platform file gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.jobs import job_sets, launch_file
from tests.cluster.place import LABEL, Place
from tests.cluster.runs import World, applied, pods_with, started, state, tasks, until

pytestmark = pytest.mark.needs("kubernetes", "kubeflow", "store", "images", "jobset", "overlay")
LAUNCHED = ("--launched", "train,evaluate")


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
