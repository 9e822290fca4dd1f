"""Data alone, and recurring runs on it: two ticks with nothing to do, paused, resumed, deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.place import Done, Place
from tests.cluster.runs import World, ended, run_id, small, tasks, until

pytestmark = pytest.mark.needs("kubeflow", "store", "images")
EVERY_S = 60


@pytest.fixture(scope="module")
def data(place: Place, world: World) -> Done:
    """A cycle of data alone, waited for."""
    return ended(place, "annotate", nightly(world))


def nightly(world: World) -> dict[str, Any]:
    """Inputs, with a store of their own."""
    return world.data(f"{world.store}-nightly")


def test_data_only(place: Place, data: Done) -> None:
    """annotate: a data set version, nothing trained."""
    data.ok()
    assert tasks(place, run_id(data))["curate"] == "SUCCEEDED"


@pytest.fixture
def schedule(place: Place, world: World, data: Done, tmp_path: Path) -> Iterator[str]:
    """A schedule of that cycle, which is done already, every minute; pinned, as others may upload meanwhile."""
    data.ok()
    inputs = nightly(world)
    version = place.pipelines("upload", "annotate", *small(place), "-o", "json").ok().json["version"]
    name = f"{place.name}-nightly"
    wanted = {
        "name": name,
        "pipeline": "annotate",
        "version": version,
        "cron": "0 * * * * *",
        "inputs": inputs,
        "experiment": name,
    }
    file = tmp_path / "schedule.yaml"
    file.write_text(yaml.safe_dump({"group": place.name, "schedules": [wanted]}))
    place.pipelines("schedule", "apply", str(file)).ok()
    assert place.pipelines("schedule", "diff", str(file), "--exit-code").ok()
    yield name
    place.pipelines("schedule", "delete", name).ok()
    assert name not in {row["name"] for row in listed(place)}


def listed(place: Place) -> list[dict[str, Any]]:
    return list(place.pipelines("schedule", "list", "-o", "json").ok().json)


def runs(place: Place) -> list[dict[str, Any]]:
    return list(place.pipelines("status", "--experiment", f"{place.name}-nightly", "-o", "json").ok().json)


def test_two_ticks(place: Place, schedule: str) -> None:
    """Two ticks with nothing to do end well; paused, none follows; resumed, they do."""

    def ended() -> list[dict[str, Any]]:
        return [run for run in runs(place) if run["state"] == "SUCCEEDED"]

    until(lambda: len(ended()) >= 2, 8 * EVERY_S)
    place.pipelines("schedule", "pause", schedule).ok()
    until(lambda: all(run["state"] not in ("PENDING", "RUNNING") for run in runs(place)), 4 * EVERY_S)
    before = len(runs(place))
    time.sleep(1.5 * EVERY_S)
    assert len(runs(place)) == before
    place.pipelines("schedule", "resume", schedule).ok()
    until(lambda: len(runs(place)) > before, 3 * EVERY_S)
    place.pipelines("schedule", "pause", schedule).ok()
    until(lambda: all(run["state"] not in ("PENDING", "RUNNING") for run in runs(place)), 4 * EVERY_S)
    assert {run["state"] for run in runs(place)} == {"SUCCEEDED"}
