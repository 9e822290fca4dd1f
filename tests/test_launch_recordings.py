"""What real schedulers answered, played through the launcher: what a person reads of each.

Recorded on Kubernetes 1.34 with JobSet 0.12, Volcano 1.15 and Kueue 0.19; specs and some fields are cut.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hqclip.cli import main
from hqclip.errors import UnavailableError
from hqclip.launch import watch
from hqclip.launch.kube import connect
from hqclip.launch.registry import load
from hqclip.launch.spec import LaunchSpec
from hqclip.launch.watch import Watch
from hqclip.store import open_store
from tests.fakes.kubernetes import FakeCluster
from tests.launching import IMAGE, bare_job, write_kubeconfig

RECORDINGS = Path(__file__).parent / "recordings/schedulers"
NO_ROOM = (
    "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 "
    "Preemption is not helpful for scheduling."
)
FLAVORS = (
    "couldn't assign flavors to pod set node: insufficient quota for cpu in flavor gang-any, previously considered "
    "podsets requests (0) + current podset request (40) > maximum capacity (8)"
)
PULL = (
    'failed to pull and unpack image "nowhere.invalid/x:1": failed to resolve reference "nowhere.invalid/x:1": failed '
    'to do request: Head "https://nowhere.invalid/v2/x/manifests/1": dial tcp: lookup nowhere.invalid: no such host'
)
SAID = {  # what holds the job back in the words of who holds it, or that it runs
    "jobset-bad-image": f"is pending, 0 of 2 pods run (ErrImagePull: {PULL})",
    "jobset-no-room": f"is pending, 0 of 2 pods run (FailedScheduling: {NO_ROOM})",
    "jobset-running": "is running, 2 of 2 pods run",
    "kueue-no-queue": "is pending, 0 of 2 pods run (Inadmissible: LocalQueue nope doesn't exist)",
    "kueue-waiting": f"is pending, 0 of 2 pods run (Pending: {FLAVORS})",
    "volcano-no-room": "is pending, 0 of 2 pods run (Unschedulable: resource in cluster is overused: overused cpu)",
    "volcano-running": "is running, 2 of 2 pods run",
}


@dataclass
class Recorded:
    """A job of a recording, with all that there was about it, on a fake cluster."""

    cluster: FakeCluster
    body: dict[str, Any]

    @property
    def scheduler(self) -> str:
        return "jobset" if self.body["kind"] == "JobSet" else "volcano"


def play(name: str, cluster: FakeCluster) -> Recorded:
    """Objects and events as they were; what was cut of their specs is filled in."""
    told = json.loads((RECORDINGS / f"{name}.json").read_text())
    for obj in told["objects"]:
        if obj["kind"] == "JobSet":
            obj["spec"]["replicatedJobs"] = [{"name": "node", "template": {"spec": {"parallelism": 2}}}]
            if name.startswith("kueue"):
                obj["spec"]["suspend"] = True
        elif obj["kind"] == "Job" and "volcano" in obj["apiVersion"]:
            obj["spec"]["tasks"] = [{"name": "node", "replicas": 2}]
        elif obj["kind"] == "Pod":
            obj["spec"]["containers"] = [{"name": "worker", "image": IMAGE}]
        same = [
            r for r in cluster.resources if (r.kind, r.group) == (obj["kind"], obj["apiVersion"].rpartition("/")[0])
        ]
        cluster.add(same[0].full, obj)
    for number, event in enumerate(told["events"]):
        cluster.add("events", {"metadata": {"name": f"event-{number}", "namespace": cluster.namespace}, **event})
    return Recorded(cluster, next(obj for obj in told["objects"] if "hqclip/key" in obj["metadata"]["annotations"]))


@pytest.fixture
def recorded(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    namespace = json.loads((RECORDINGS / f"{request.param}.json").read_text())["objects"][0]["metadata"]["namespace"]
    with FakeCluster(namespace) as cluster:
        where = write_kubeconfig(tmp_path / "kubeconfig", cluster.url, namespace)
        monkeypatch.setenv("KUBECONFIG", str(where))
        monkeypatch.setattr(watch, "POLL_S", 0.01)
        yield play(request.param, cluster)


def test_every_recording_is_told() -> None:
    assert sorted(SAID) == sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.mark.parametrize(("recorded", "said"), SAID.items(), ids=SAID, indirect=["recorded"])
def test_the_launcher_says_who_holds_the_job_back(
    recorded: Recorded, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, scheduler = recorded.body["metadata"]["name"], recorded.scheduler
    spec = LaunchSpec(scheduler=scheduler, image=IMAGE, nodes=2, pending_timeout_s=0.3, running_timeout_s=0.3)
    store = open_store(str(tmp_path / "store"))
    outcome = Watch(connect(), load(scheduler), spec, store).to_the_end(
        bare_job(store.uri, name=name, nodes=2, no_progress_attempts=2, shutdown_s=60.0, launch=1)
    )
    first = next(line for line in capsys.readouterr().err.splitlines() if name in line)  # of this job, not the last
    assert f"{name} {said}" in first
    assert isinstance(outcome.fault, UnavailableError)
    if "pending" in said:
        assert str(outcome.fault).endswith(said.partition("(")[2].removesuffix(")"))


@pytest.mark.parametrize(("recorded", "said"), SAID.items(), ids=SAID, indirect=["recorded"])
def test_the_list_of_jobs_says_the_same(recorded: Recorded, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "list"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["jobs"]
    assert f"is {row['phase']}, {row['pods_running']} of 2 pods run" == said.partition(" (")[0]
    assert row["reason"] == said.partition("(")[2].removesuffix(")")
