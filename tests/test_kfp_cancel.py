"""`cancel`: the end of a run, of the jobs it has launched, and of its lock on the store."""

from __future__ import annotations

import io
import json
import socket
import sys
from pathlib import Path

import pytest

from hqclip.cycle import lock
from hqclip.errors import ConfigError, UnavailableError
from hqclip.store import open_store
from pipelines.client import cancel, pods
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call
from tests.fakes.kubernetes import FakeCluster
from tests.jobs import Jobs
from tests.kubeflow_runs import NO_CLUSTER, Read, Start, shown
from tests.launching import PLURAL, write_kubeconfig


@pytest.mark.parametrize("scheduler", PLURAL)
def test_the_jobs_of_a_run_go_first_then_the_run(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, tmp_path: Path, capsys: Read, scheduler: str
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    jobs = Jobs(kubernetes, scheduler, str(tmp_path / "store"))
    own, other = jobs.add("000001-a", launch_id=run_id), jobs.add("000001-b", launch_id="another-run")
    left_at_the_end: list[list[str]] = []
    kubeflow.then("POST", ":terminate$", lambda: left_at_the_end.append(list(jobs.names)))
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys) == {"run_id": run_id, "state": "CANCELING", "jobs_deleted": [own]}
    assert left_at_the_end == [[other]]


def test_jobs_that_are_looked_for_in_the_wrong_place_are_not_taken_for_gone(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    kubeflow.task(run_id, "train", "RUNNING")
    own = Jobs(kubernetes, "volcano", str(tmp_path / "store")).add("000001-a", launch_id=run_id)
    said = r"no job of it was found in namespace ml, though train was under way.*\(--jobs-namespace\), and cancel"
    with pytest.raises(UnavailableError, match=said):
        call(cancel, run_id, "--namespace", "ml")
    assert kubeflow.runs[run_id]["state"] == "FAILED"
    capsys.readouterr()
    assert call(cancel, run_id, "--jobs-namespace", "kubeflow", "-o", "json") == 0
    assert shown(capsys)["jobs_deleted"] == [own]


def test_a_run_that_is_not_launching_has_no_jobs_to_miss(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    kubeflow.task(run_id, "train", "SUCCEEDED")
    kubeflow.task(run_id, "promote", "RUNNING")
    assert call(cancel, run_id) == 0
    assert "no job of it is under way in namespace kubeflow" in capsys.readouterr().err


@pytest.mark.parametrize(("stage", "code"), [("score", 0), ("annotate", 69), ("train", 69)])
def test_what_works_in_its_own_pod_has_no_job_to_miss(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, stage: str, code: int
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    (version,) = kubeflow.versions.values()
    spec = version["pipeline_spec"]
    spec.get("pipeline_spec", spec)["pipelineInfo"]["description"] = "A cycle. Line: launched-annotate-train-small."
    kubeflow.task(run_id, stage, "RUNNING")
    if code:
        with pytest.raises(UnavailableError, match=f"though {stage} was under way"):
            call(cancel, run_id)
    else:
        assert call(cancel, run_id) == code


def test_a_lock_on_a_store_that_is_not_here_is_said_to_be_left(start: Start, tmp_path: Path, capsys: Read) -> None:
    run_id = start(store=str(tmp_path / "mounted-elsewhere"))
    assert call(cancel, run_id) == 0
    assert f"its lock on {tmp_path}/mounted-elsewhere was not freed" in capsys.readouterr().err
    assert not (tmp_path / "mounted-elsewhere").exists()


def test_a_job_that_a_launcher_starts_meanwhile_goes_too(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    jobs = Jobs(kubernetes, "volcano", str(tmp_path / "store"))
    kubeflow.then("POST", ":terminate$", lambda: jobs.add("000001-late", launch_id=run_id))
    assert call(cancel, run_id, "-o", "json") == 0
    assert len(shown(capsys)["jobs_deleted"]) == 1
    assert jobs.names == []


def test_what_has_ended_is_let_be_but_its_jobs_are_not(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    own = Jobs(kubernetes, "volcano", str(tmp_path / "store")).add("000001-a", launch_id=run_id)
    kubeflow.finish(run_id, "FAILED")
    assert call(cancel, run_id, "-o", "json") == 0
    read = capsys.readouterr()
    assert json.loads(read.out) == {"run_id": run_id, "state": "FAILED", "jobs_deleted": [own]}
    assert "had ended before, FAILED: only what is left of it is looked for" in read.err
    assert not kubeflow.asked("POST", ":terminate")


def test_a_run_that_ends_while_it_is_cancelled_is_no_fault(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read
) -> None:
    run_id = start()
    kubeflow.then("GET", f"/runs/{run_id}", lambda: kubeflow.finish(run_id))
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys)["state"] == "SUCCEEDED"


def test_a_cancelled_run_keeps_nobody_out_of_its_store(
    kubernetes: FakeCluster, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(str(tmp_path / "store"))
    run_id = start(store=store.uri)
    monkeypatch.delenv(lock.LOCAL_RUN, raising=False)
    assert lock.take(store, run_id, 1) is None
    assert lock.take(store, "the next run", 1)
    assert call(cancel, run_id) == 0
    assert lock.take(store, "the next run", 1) is None


def test_jobs_out_of_reach_are_said_and_the_run_is_terminated(kubeflow: FakeKubeflow, start: Start) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    said = rf"jobs were not deleted, and may hold GPUs: {NO_CLUSTER}.*hqclip jobs cancel --of {run_id}"
    with pytest.raises(UnavailableError, match=said) as caught:
        call(cancel, run_id)
    assert caught.value.exit_code == 69
    assert kubeflow.runs[run_id]["state"] == "FAILED"


def test_a_cluster_that_does_not_answer_does_not_hold_up_the_cancel(
    kubeflow: FakeKubeflow, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "PATIENCE_S", 0.2)
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", url)))
        with pytest.raises(UnavailableError, match="the run is terminated, but its jobs"):
            call(cancel, run_id)
    assert kubeflow.runs[run_id]["state"] == "FAILED"


def test_a_run_that_launches_nothing_needs_no_cluster(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(cancel, run_id) == 0
    assert "launches no jobs" in capsys.readouterr().err


def test_a_dry_cancel_touches_nothing(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    assert call(cancel, "latest", "--dry-run", "-o", "json") == 0
    assert shown(capsys) == {"run_id": run_id, "state": "RUNNING", "deletes_jobs_of": run_id}
    assert kubeflow.runs[run_id]["state"] == "RUNNING"


def test_a_cancel_whose_answer_got_lost_is_sent_again(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.commit_then_drop("POST", ":terminate")
    assert call(cancel, run_id) == 0
    assert len(kubeflow.asked("POST", ":terminate")) == 2
    assert kubeflow.runs[run_id]["state"] == "FAILED"


def test_jobs_that_had_ended_are_cleared_away_unnamed(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    jobs = Jobs(kubernetes, "jobset", str(tmp_path / "store"))
    jobs.add("000001-ended", launch_id=run_id, phase="completed")
    running = jobs.add("000001-running", launch_id=run_id)
    assert call(cancel, run_id, "-o", "json") == 0
    assert shown(capsys)["jobs_deleted"] == [running]
    assert jobs.names == []


@pytest.mark.parametrize("called", ["latest", "friday"])
def test_what_is_not_named_by_its_id_is_asked_for_or_refused(
    kubeflow: FakeKubeflow, start: Start, capsys: Read, monkeypatch: pytest.MonkeyPatch, called: str
) -> None:
    run_id = start("friday")
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    with pytest.raises(ConfigError, match=f"{called} is run {run_id} .*now; name it by its id, .*cancel {run_id}, or"):
        call(cancel, called)
    assert kubeflow.runs[run_id]["state"] == "RUNNING"
    for answer in ("n\n", "\n", "y\n"):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True)
        monkeypatch.setattr(sys, "stdin", terminal)
        if answer == "y\n":
            assert call(cancel, called) == 0
        else:
            with pytest.raises(ConfigError, match="nothing was cancelled"):
                call(cancel, called)
            assert kubeflow.runs[run_id]["state"] == "RUNNING"
    assert f"cancel run {run_id} (friday, RUNNING)? [y/N]" in capsys.readouterr().err
    assert kubeflow.runs[run_id]["state"] != "RUNNING"


def test_who_is_sure_says_so(kubeflow: FakeKubeflow, start: Start) -> None:
    run_id = start("friday")
    assert call(cancel, "latest", "--yes") == 0
    assert kubeflow.runs[run_id]["state"] == "FAILED"
