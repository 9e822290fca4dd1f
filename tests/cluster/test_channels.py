"""Channels: what is tried moves no schedule, what is promoted does, and is taken back.

In a line of the suite's own, which its platform file names: what others promoted stays in force.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.place import LABEL, Place
from tests.cluster.runs import World, ended, until

pytestmark = pytest.mark.needs("kubeflow", "store", "images")
PIPELINE = "annotate"
EVERY_S = 60


@dataclass(frozen=True)
class Followed:
    """A schedule of a cycle of data that is done already, every minute, which follows a channel of the suite's own."""

    place: Place
    platform: Path
    file: Path
    name: str

    @property
    def channel(self) -> str:
        """Of the line that the platform file names."""
        return f"stable-on-{self.place.name}"

    def uploaded(self, number: int) -> str:
        """A version of content that nobody else has: its name."""
        self.place.platform(self.platform, labels={LABEL: self.place.name, f"{LABEL}-number": str(number)})
        words = ("upload", PIPELINE, "--platform", str(self.platform), "-o", "json")
        made = self.place.pipelines(*words).ok().json
        assert made["new"]
        return str(made["version"])

    def promoted(self, version: str) -> dict[str, Any]:
        """What came of promoting it."""
        return dict(self.place.pipelines("promote-version", PIPELINE, version, "-o", "json").ok().json)

    def rolled_back(self) -> dict[str, Any]:
        """What came of going back."""
        return dict(self.place.pipelines("rollback", PIPELINE, self.channel, "-o", "json").ok().json)

    def runs(self) -> list[dict[str, Any]]:
        """Those of the schedule, the newest first."""
        words = ("status", "--experiment", self.name, "-o", "json")
        told = self.place.pipelines(*words)
        return list(told.json) if told.code == 0 else []  # there is no experiment before its first run

    def next_takes(self, version: str) -> None:
        """Wait for a run that begins after this moment: it takes this version."""
        known = {run["run_id"] for run in self.runs()}
        until(lambda: {run["run_id"] for run in self.runs()} - known, 6 * EVERY_S)
        run = next(run["run_id"] for run in reversed(self.runs()) if run["run_id"] not in known)
        assert self.place.pipelines("status", run, "-o", "json").ok().json["version"] == version


@pytest.fixture
def followed(place: Place, world: World, tmp_path: Path) -> Iterator[Followed]:
    """Its channel has no version yet, and the schedule is not applied."""
    inputs = world.data(f"{world.store}-channels")
    ended(place, PIPELINE, inputs).ok()
    name = f"{place.name}-channels"
    schedule = Followed(place, tmp_path / f"{place.name}.yaml", tmp_path / "schedule.yaml", name)
    wanted = {
        "name": name,
        "pipeline": PIPELINE,
        "version": schedule.channel,
        "cron": "0 * * * * *",
        "inputs": inputs,
        "experiment": name,
    }
    schedule.file.write_text(yaml.safe_dump({"group": name, "schedules": [wanted]}))
    yield schedule
    if name in {row["name"] for row in place.pipelines("schedule", "list", "-o", "json").ok().json}:
        place.pipelines("schedule", "delete", name).ok()
    until(lambda: all(run["state"] not in ("PENDING", "RUNNING") for run in schedule.runs()), 4 * EVERY_S)
    place.run(sys.executable, "-c", _FORGET, f"hqclip-{PIPELINE}-{schedule.channel}").ok()


def test_a_schedule_follows(place: Place, followed: Followed) -> None:
    """Two versions uploaded, one promoted: a schedule follows that one, then the other, and goes back with rollback."""
    one = followed.uploaded(1)
    words = ("schedule", "diff", str(followed.file))
    assert f"nothing was promoted to {followed.channel}" in place.pipelines(*words).ended(64).err
    step = followed.promoted(one)
    assert (step["channel"], step["version"], step["before"], step["new"]) == (followed.channel, one, "", True)
    assert followed.promoted(one)["new"] is False
    place.pipelines("schedule", "apply", str(followed.file)).ok()

    two = followed.uploaded(2)
    followed.next_takes(one)
    assert followed.promoted(two)["before"] == one
    listed = {row["version"]: row for row in place.pipelines("list", PIPELINE, "-o", "json").ok().json}
    assert (listed[one]["channel"], listed[two]["channel"]) == ("dev", followed.channel)
    assert listed[two]["line"] == f"on-{place.name}"
    assert f"channel={followed.channel}" in tags_of(place, followed, two)
    followed.next_takes(two)

    assert followed.rolled_back()["version"] == f"{one}-again-2"
    followed.next_takes(f"{one}-again-2")
    place.pipelines(*words, "--exit-code").ok()
    said = place.pipelines("rollback", PIPELINE, followed.channel).ended(66).err
    assert f"nothing was in force before {one}-again-2" in said


def tags_of(place: Place, followed: Followed, version: str) -> str:
    """As Kubeflow keeps them with a version of the channel."""
    rows = place.pipelines("list", f"hqclip-{PIPELINE}-{followed.channel}", "-o", "json").ok().json
    return str(next(row["tags"] for row in rows if row["version"] == version))


_FORGET = """
import json, os, sys, kfp
client = kfp.Client(host=os.environ["HQCLIP_KFP_HOST"])
named = {"predicates": [{"operation": "EQUALS", "key": "name", "stringValue": sys.argv[1]}]}
for pipeline in client.list_pipelines(filter=json.dumps(named)).pipelines or []:
    client._pipelines_api.pipeline_service_delete_pipeline(pipeline.pipeline_id, cascade=True)
"""
