"""`hqclip jobs` at a shell and by the hour: what runs is shown and explained; what nobody wants is deleted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.cli import main
from hqclip.launch.job import folder
from hqclip.launch.naming import STORE
from hqclip.store import open_store
from tests.fakes.kubernetes import FakeCluster
from tests.jobs import Jobs
from tests.launching import PLURAL, write_kubeconfig

HOUR = 3600.0


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url)))
        yield cluster


@pytest.fixture(params=PLURAL)
def jobs(request: pytest.FixtureRequest, cluster: FakeCluster, tmp_path: Path) -> Jobs:
    return Jobs(cluster, str(request.param), str(tmp_path / "store"))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """`hqclip jobs ...`: its result, once it went well."""

    def run(*words: str) -> Any:
        capsys.readouterr()
        assert main(["jobs", *words]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_the_list_shows_what_runs_and_why_something_waits(jobs: Jobs, say: Any) -> None:
    waits, runs = jobs.add("000001-waits", phase="pending"), jobs.add("000002-runs", launch_id="run-7")
    jobs.cluster.event("Job", waits, "FailedScheduling", "0/3 nodes have 8 free GPUs")
    listed = say("list")
    rows = {row.pop("job"): row for row in listed["jobs"]}
    assert listed["namespace"] == "training" and set(rows) == {waits, runs}
    common = {"scheduler": jobs.scheduler, "stage": "train", "store": jobs.uri, "created": rows[runs]["created"]}
    running = {"phase": "running", "pods_running": 2, "restarts": 1, "reason": "", "launch_id": "run-7"}
    assert rows[runs] == {**common, **running, "key": f"{runs}/1"}
    shown = ("phase", "pods_running", "restarts", "reason")
    assert [rows[waits][key] for key in shown] == ["pending", 0, 0, "FailedScheduling: 0/3 nodes have 8 free GPUs"]


def test_a_failed_job_is_listed_with_the_word_of_its_controller(jobs: Jobs, say: Any) -> None:
    jobs.add("000001-fails", phase="failed")
    (row,) = say("list")["jobs"]
    assert (row["phase"], row["reason"]) == ("failed", "AllJobs: it is over")


def test_an_empty_namespace_has_an_empty_list(jobs: Jobs, say: Any) -> None:
    assert say("list") == {"namespace": "training", "jobs": []}


def test_a_cluster_with_one_scheduler_lists_its_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say: Any) -> None:
    with FakeCluster(installed=["jobsets"]) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "bare", cluster.url)))
        name = Jobs(cluster, "jobset", str(tmp_path / "store")).add("000001-runs")
        assert [row["job"] for row in say("list")["jobs"]] == [name]


def test_logs_are_those_of_the_node_that_is_asked_for(jobs: Jobs, capsys: pytest.CaptureFixture[str]) -> None:
    name = jobs.add("000001-runs")
    for number, pod in enumerate(jobs.cluster.names("pods")):
        jobs.cluster.log(pod, *(f"node {number} step {step}" for step in range(2)))
    assert main(["jobs", "logs", "--job", name]) == 0
    said = capsys.readouterr()
    assert said.err == "node 0 step 0\nnode 0 step 1\n"
    assert json.loads(said.out) == {"job": name, "node": 0, "lines": 2}
    assert main(["jobs", "logs", "--job", name, "--node", "1"]) == 0
    assert capsys.readouterr().err == "node 1 step 0\nnode 1 step 1\n"


def test_a_job_is_cancelled_by_its_name_and_its_pods_go_with_it(jobs: Jobs, say: Any) -> None:
    one, other = jobs.add("000001-one"), jobs.add("000002-other")
    assert say("cancel", "--job", one) == {"namespace": "training", "cancelled": [one]}
    assert jobs.names == [other]
    assert all(pod.startswith(other) for pod in jobs.cluster.names("pods"))


def test_all_jobs_of_a_launch_are_cancelled_together(jobs: Jobs, say: Any) -> None:
    first, second = jobs.add("000001-one", launch_id="Run_7"), jobs.add("000002-two", launch_id="Run_7")
    other = jobs.add("000003-three", launch_id="run-70")
    assert sorted(say("cancel", "--of", "Run_7")["cancelled"]) == sorted([first, second])
    assert jobs.names == [other]
    assert say("cancel", "--of", "Run_7")["cancelled"] == []


@pytest.mark.parametrize("command", ["logs", "cancel"])
def test_a_name_that_no_job_has_is_said(jobs: Jobs, capsys: pytest.CaptureFixture[str], command: str) -> None:
    name = jobs.add("000001-runs")
    assert main(["jobs", command, "--job", "hqclip-tarin"]) == 66
    assert "no job 'hqclip-tarin' of hqclip in namespace training; `hqclip jobs list`" in capsys.readouterr().err
    assert jobs.names == [name]


@pytest.mark.parametrize("flags", [(), ("--job", "a", "--of", "b")])
def test_it_must_be_clear_what_is_cancelled(
    jobs: Jobs, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    assert main(["jobs", "cancel", *flags]) == 64
    assert "give one of job and of" in capsys.readouterr().err
    assert jobs.cluster.requests == []


def test_the_jobs_of_others_are_not_there(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid="gone")
    del jobs.cluster.get(jobs.plural, name)["metadata"]["labels"]["app.kubernetes.io/name"]
    assert say("list")["jobs"] == []
    assert say("gc")["deleted"] == {}
    assert main(["jobs", "cancel", "--job", name]) == 66
    assert jobs.names == [name]


def test_the_janitor_deletes_a_job_whose_workflow_is_gone(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid="0-1")
    jobs.watched(name)
    assert say("gc")["deleted"] == {name: "its workflow refine-x7 is gone"}
    assert jobs.names == [] and jobs.cluster.names("pods") == []


def test_the_janitor_deletes_a_job_whose_workflow_was_replaced(jobs: Jobs, say: Any) -> None:
    jobs.workflow("refine-x7")
    name = jobs.add("000001-runs", workflow="refine-x7", uid="of-the-first")
    assert say("gc")["deleted"] == {name: "its workflow refine-x7 is gone"}


@pytest.mark.parametrize("phase", ["Succeeded", "Failed", "Error"])
def test_the_janitor_deletes_a_job_whose_workflow_has_ended(jobs: Jobs, say: Any, phase: str) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid=jobs.workflow("refine-x7", phase), phase="pending")
    jobs.watched(name)
    assert say("gc")["deleted"] == {name: f"its workflow refine-x7 has ended ({phase})"}


def test_the_janitor_deletes_a_job_that_nobody_has_watched_for_long(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid=jobs.workflow("refine-x7"), lease_stale_s=HOUR)
    jobs.watched(name, seconds_ago=2 * HOUR + 60)
    ((deleted, reason),) = say("gc")["deleted"].items()
    assert deleted == name and reason.startswith("nobody has watched it for 72")
    assert jobs.names == []


def test_the_janitor_leaves_what_somebody_watches_or_may_watch(jobs: Jobs, say: Any) -> None:
    running = jobs.add("000001-runs", workflow="refine-x7", uid=jobs.workflow("refine-x7"))
    jobs.watched(running)
    jobs.add("000002-is-only-created")
    late = jobs.add("000003-is-late", lease_stale_s=HOUR)  # its workers may have noticed: clocks here prove nothing yet
    jobs.watched(late, seconds_ago=2 * HOUR - 60)
    free = jobs.add("000004-needs-no-watcher", lease_stale_s=0.0)
    jobs.watched(free, seconds_ago=100 * HOUR)
    before = jobs.names
    assert say("gc") == {"namespace": "training", "deleted": {}, "not_judged": {}, "dry_run": False}
    assert jobs.names == before and len(before) == 4


@pytest.mark.parametrize("phase", ["completed", "failed"])
def test_the_janitor_leaves_what_has_ended_for_people_to_look_at(jobs: Jobs, say: Any, phase: str) -> None:
    name = jobs.add("000001-ended", workflow="refine-x7", uid="gone", phase=phase)
    jobs.watched(name, seconds_ago=100 * HOUR)
    assert say("gc")["deleted"] == {}
    assert jobs.names == [name]


def test_the_owner_that_counts_is_a_workflow_of_argo(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="nightly", uid="0-1")
    jobs.cluster.get(jobs.plural, name)["metadata"]["ownerReferences"][0]["apiVersion"] = "flows.example/v1"
    assert say("gc")["deleted"] == {}


def test_a_dry_run_of_the_janitor_deletes_nothing(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid="gone")
    told = say("gc", "--dry-run")
    assert told["deleted"] == {name: "its workflow refine-x7 is gone"} and told["dry_run"]
    assert jobs.names == [name]


def test_a_job_that_cannot_be_judged_stays_and_the_others_are_judged(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    gone, cut, denied = (
        jobs.add("000001-gone"),
        jobs.add("000002-cut"),
        jobs.add("000003-denied", workflow="w", uid="1"),
    )
    jobs.cluster.get(jobs.plural, gone)["metadata"]["annotations"][STORE] = jobs.uri + "-elsewhere"
    open_store(jobs.uri).write(f"{folder(jobs.key(cut))}/lease.json", b'{"owner": ')
    jobs.cluster.fail("DELETE", denied, 403, message="somebody cannot delete it")
    unwanted = jobs.add("000009-unwanted")
    jobs.watched(unwanted, seconds_ago=100 * HOUR)
    assert main(["jobs", "gc"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert list(told["deleted"]) == [unwanted] and set(told["not_judged"]) == {gone, cut, denied}
    assert "no such object" in told["not_judged"][gone] and "not a lease" in told["not_judged"][cut]
    assert said.err.count("was not judged") == 3
    assert jobs.names == sorted([gone, cut, denied])


def test_a_job_that_was_replaced_under_the_janitors_hands_stays(jobs: Jobs, say: Any) -> None:
    name = jobs.add("000001-runs", workflow="refine-x7", uid="gone")

    def replace() -> None:
        jobs.cluster.delete(jobs.plural, name)
        jobs.add("000001-runs")

    jobs.cluster.then("GET", "/workflows/refine-x7$", replace)
    assert say("gc")["deleted"] == {}
    assert jobs.names == [name]


def test_two_schedulers_are_cleaned_by_one_janitor(cluster: FakeCluster, tmp_path: Path, say: Any) -> None:
    names = [
        Jobs(cluster, kind, str(tmp_path / kind)).add(f"00000{n}-x", workflow="w", uid="1")
        for n, kind in enumerate(PLURAL)
    ]
    assert sorted(say("gc")["deleted"]) == sorted(names)
    assert cluster.names("jobs") == cluster.names("jobsets") == []
