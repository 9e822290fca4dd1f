"""`status` and `logs`: what a run does and what it said, by its workflow and its records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import ConfigError, NotFoundError
from pipelines.client import explain, logs, status
from pipelines.client.said import phrase
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call, write_package
from tests.fakes.kubernetes import FakeCluster
from tests.kubeflow_runs import Read, Start, Write, shown


def told(capsys: Read, run_id: str) -> dict[str, Any]:
    assert call(status, run_id, "-o", "json") == 0
    return dict(shown(capsys))


# status


def test_a_run_is_shown_with_its_tasks_and_with_nothing_of_kubeflows_own(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    run_id = start("friday")
    kubeflow.task(run_id, "plan", "SUCCEEDED")
    for item, trial in enumerate(("raw", "hqclip")):
        kubeflow.task(run_id, "train", "SUCCEEDED", item=item, trial=trial)
    kubeflow.task(run_id, "evaluate", "SUCCEEDED", item=0)
    kubeflow.task(run_id, "evaluate", "FAILED", item=1, status=65, lines=["hqclip evaluate: no image can be read"])
    kubeflow.task(run_id, "promote", "OMITTED")
    kubeflow.task(run_id, "finish", "SUCCEEDED")
    kubeflow.finish(run_id, "FAILED")
    assert [(task["task"], task["state"]) for task in told(capsys, run_id)["tasks"]] == [
        ("plan", "SUCCEEDED"),
        ("train-raw", "SUCCEEDED"),
        ("train-hqclip", "SUCCEEDED"),
        ("evaluate-raw", "SUCCEEDED"),
        ("evaluate-hqclip", "FAILED"),
        ("promote", "OMITTED"),
        ("finish", "SUCCEEDED"),
    ]
    assert call(status, run_id) == 0
    person = capsys.readouterr()
    assert "failed at evaluate-hqclip (data, exit code 65): hqclip evaluate: no image can be read" in person.out
    assert "link" not in person.out and "HQCLIP_KFP_UI" not in person.err, "where pages are is for the doctor to say"
    assert call(status, run_id, "--ui", "http://pages") == 0
    assert f"link     http://pages/#/runs/details/{run_id}" in capsys.readouterr().out
    assert f"python -m pipelines explain {run_id}" in person.err


@pytest.mark.parametrize("is_large", [False, True])
def test_a_large_workflow_is_packed(kubeflow: FakeKubeflow, start: Start, capsys: Read, is_large: bool) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "RUNNING", item=2, trial="lr-1e-3")
    kubeflow.workflow(run_id).is_large = is_large
    assert [task["task"] for task in told(capsys, run_id)["tasks"]] == ["train-lr-1e-3"]


def test_records_name_trials_machines_and_decisions(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    for item, trial in enumerate(("raw", "hqclip")):
        write(run_id, "train", trial=trial, pod=kubeflow.task(run_id, "train", "SUCCEEDED", item=item), node="gpu-7")
        kubeflow.task(run_id, "evaluate", "SUCCEEDED", item=item)
    reason = "hqclip is 2.1 points better than the champion, 0.5 were asked for"
    decided = {"verdict": "promoted", "reason": reason, "report": "cycles/000003/report.html"}
    write(run_id, "promote", pod=kubeflow.task(run_id, "promote", "SUCCEEDED"), decided=decided)
    kubeflow.finish(run_id)
    found = told(capsys, run_id)
    names = [task["task"] for task in found["tasks"]]
    assert names == ["train-raw", "train-hqclip", "evaluate-raw", "evaluate-hqclip", "promote"]
    assert found["tasks"][0]["machine"] == "gpu-7"
    assert found["outcome"] == f"promoted: {reason}"
    assert found["page"].endswith("/store/cycles/000003/report.html")


def test_that_there_was_work_is_not_what_came_of_it(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    write(run_id, "plan", decided={"has_work": True, "reason": "cycle 1 has work"})
    write(run_id, "curate", decided={"dataset": "datasets/7"})
    write(run_id, "finish", decided={"outcome": "succeeded", "reason": "the run succeeded: datasets/7"})
    kubeflow.finish(run_id)
    assert told(capsys, run_id)["outcome"] == "the run succeeded: datasets/7"
    quiet = start()
    write(quiet, "plan", decided={"has_work": False, "reason": "cycle 1 is done"})
    kubeflow.finish(quiet)
    assert told(capsys, quiet)["outcome"] == "cycle 1 is done"


@pytest.mark.parametrize(
    ("stage", "decided", "said"),
    [
        ("download", {"rows": 1300, "num_shards": 2, "faults": {}, "damaged": {}}, "1,300 rows in 2 shards"),
        (
            "download",
            {"rows": 9, "num_shards": 2, "faults": {"no_image": 3, "no_text": 1}, "damaged": {"1": "is cut"}},
            "9 rows in 2 shards, 4 refused, 1 shards damaged",
        ),
        ("annotate", {"rows": 1300, "statuses": {"ok": 1280, "refused": 20}}, "1,280 of 1,300 rows annotated"),
        ("curate", {"rows": 1300, "usable_rows": 1280}, "1,280 of 1,300 rows usable"),
        ("train", {"model": "runs/000001-raw/model"}, "model runs/000001-raw/model"),
        ("evaluate", {"average": 0.4117}, "average 41.2%"),
        ("promote", {"average": 0.4, "reason": "there was no champion before"}, "there was no champion before"),
        ("curate", {"rows": 1300}, ""),
        ("evaluate", {"average": None}, ""),
        ("export", {}, ""),
    ],
)
def test_a_row_says_what_its_task_decided(stage: str, decided: dict[str, Any], said: str) -> None:
    assert phrase(stage, decided) == said


def test_rows_of_stages_say_their_numbers(kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read) -> None:
    run_id = start()
    pod = kubeflow.task(run_id, "evaluate", "SUCCEEDED", item=0)
    write(run_id, "evaluate", trial="raw", pod=pod, decided={"evaluation": "evaluations/e.json", "average": 0.4117})
    kubeflow.task(run_id, "train", "SUCCEEDED", item=0)
    assert call(status, run_id) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "SUCCEEDED" in line]
    assert {row[0]: row[4:] for row in rows} == {"train-raw": ["-"], "evaluate-raw": ["average", "41.2%"]}


def test_a_name_that_a_pod_knows_only_the_beginning_of_is_its_own(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    kubeflow.workflow(run_id).name = "nightly-of-the-team-with-the-long-name-1-3531537277"
    pod = kubeflow.task(run_id, "train", "RUNNING", item=0)
    assert len(pod) > 63
    write(run_id, "train", trial="raw", pod=pod[:63], exit_code=None)
    assert [task["task"] for task in told(capsys, run_id)["tasks"]] == ["train-raw"]


def test_a_run_whose_workflow_is_not_served_is_told_by_what_is(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    kubeflow.task(run_id, "plan", "SUCCEEDED")
    kubeflow.task(run_id, "train", "FAILED", item=0, status=65)
    kubeflow.task(run_id, "promote", "OMITTED")
    kubeflow.finish(run_id, "FAILED")
    kubeflow.serves_v1 = False
    assert call(status, run_id, "-o", "json") == 0
    read = capsys.readouterr()
    states = [(task["task"], task["state"]) for task in json.loads(read.out)["tasks"]]
    assert states == [("plan", "SUCCEEDED"), ("train", "FAILED"), ("promote", "OMITTED")]
    assert "not to be seen: Kubeflow's workflow" in read.err
    write(run_id, "train", trial="raw", pod="x", exit_code=65, reason="data", error="hqclip train: nan")
    assert call(explain, run_id, "-o", "json") == 0
    (reason,) = shown(capsys)["reasons"]
    assert (reason["task"], reason["exit_code"], reason["line"]) == ("train-raw", 65, "hqclip train: nan")


def test_a_store_out_of_reach_is_said_and_the_rest_is_told(
    kubeflow: FakeKubeflow, start: Start, tmp_path: Path, capsys: Read
) -> None:
    run_id = start(store=str(tmp_path / "mounted-elsewhere"))
    kubeflow.task(run_id, "plan", "RUNNING")
    assert call(status, run_id) == 0
    read = capsys.readouterr()
    assert "plan  RUNNING" in read.out
    assert f"not to be seen: the records of tasks in {tmp_path}/mounted-elsewhere" in read.err
    assert not (tmp_path / "mounted-elsewhere").exists()


def test_a_pod_that_was_lost_is_no_failure(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "FAILED", message="pod deleted", goes_on=True)
    (task,) = told(capsys, run_id)["tasks"]
    assert (task["state"], task["attempts"]) == ("PENDING", 1)
    assert call(explain, run_id, "-o", "json") == 0
    assert shown(capsys)["reasons"] == []
    kubeflow.task(run_id, "train", "RUNNING", attempt=1)
    (task,) = told(capsys, run_id)["tasks"]
    assert (task["state"], task["attempts"]) == ("RUNNING", 2)
    kubeflow.task(run_id, "train", "SUCCEEDED", attempt=1)
    kubeflow.finish(run_id)
    (task,) = told(capsys, run_id)["tasks"]
    assert (task["state"], task["attempts"]) == ("SUCCEEDED", 2)


def test_a_terminated_run_is_cancelled_and_not_failed(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "annotate", "SUCCEEDED")
    kubeflow.task(run_id, "train", "RUNNING", item=0, trial="raw")
    kubeflow.state(run_id, "CANCELING")
    assert told(capsys, run_id)["state"] == "CANCELING"
    found = told(capsys, run_id)
    assert (found["state"], [task["state"] for task in found["tasks"]]) == ("CANCELED", ["SUCCEEDED", "CANCELED"])
    assert "while train-raw was under way; what was finished is kept" in found["outcome"]
    assert kubeflow.runs[run_id]["state"] == "FAILED", "that is what Kubeflow says"


def test_what_failed_before_somebody_ended_the_run_has_failed(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "FAILED", item=0, trial="bad", status=65, lines=["hqclip train: nan"])
    kubeflow.task(run_id, "train", "RUNNING", item=1, trial="good")
    kubeflow.state(run_id, "CANCELING")
    told(capsys, run_id)
    found = told(capsys, run_id)
    assert [task["state"] for task in found["tasks"]] == ["FAILED", "CANCELED"]
    assert "train-bad (data, exit code 65): hqclip train: nan" in found["outcome"]


def test_what_a_task_decided_is_taken_from_its_log_if_nobody_wrote_it_down(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    said = (
        "skipped: cycle 3 is being refined by run nightly-7 (seen 12 s ago); the next run goes on from what it leaves"
    )
    run_id = start()
    kubeflow.task(run_id, "plan", "SUCCEEDED", lines=[f"hqclip plan: {said}"])
    kubeflow.task(run_id, "finish", "SUCCEEDED")
    kubeflow.finish(run_id)
    assert told(capsys, run_id)["outcome"] == said


def test_a_run_is_found_by_the_start_of_its_id_by_its_name_or_as_the_latest(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    first, second = start("first"), start("second")
    for words, expected in ((first[:8], first), ("first", first), ("latest", second), (second, second)):
        assert told(capsys, words)["run_id"] == expected
    with pytest.raises(NotFoundError, match="there is no run 'third'"):
        call(status, "third")


def test_the_latest_is_the_newest_of_this_project_and_not_a_neighbours(
    kubeflow: FakeKubeflow, start: Start, tmp_path: Path, capsys: Read
) -> None:
    from pipelines.client import runs

    path = write_package(tmp_path, name="neighbour")
    assert call(runs, path, "--set", "store=s", "-o", "json") == 0
    theirs = shown(capsys)["run_id"]
    with pytest.raises(NotFoundError, match="no run of hqclip-refine, .*status --all"):
        call(status, "latest")
    ours = start("ours")
    assert call(runs, path, "--set", "store=s", "-o", "json") == 0
    newest = shown(capsys)["run_id"]
    assert told(capsys, "latest")["run_id"] == ours
    assert told(capsys, newest)["run_id"] == newest, "by its id anybody's is shown"
    for words, expected in (((), [ours]), (("--all",), [newest, ours, theirs])):
        assert call(status, *words, "-o", "json") == 0
        assert [row["run_id"] for row in shown(capsys)] == expected


def test_the_latest_is_that_of_the_experiment(start: Start, capsys: Read) -> None:
    nightly, _ = start("night", experiment="nightly"), start("day")
    assert call(status, "latest", "--experiment", "nightly", "-o", "json") == 0
    assert shown(capsys)["run_id"] == nightly
    with pytest.raises(NotFoundError, match="no run 'day'"):
        call(status, "day", "--experiment", "nightly")


def test_runs_are_listed_the_newest_first_in_rows_that_fit(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    for name in ("one", "two", "three"):
        start(name)
    assert call(status, "--limit", 2, "-o", "json") == 0
    assert [row["name"] for row in shown(capsys)] == ["three", "two"]
    assert call(status, "--experiment", "hqclip") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert max(map(len, lines)) <= 120
    with pytest.raises(NotFoundError, match="no experiment 'nothing'"):
        call(status, "--experiment", "nothing")


def test_less_than_one_run_cannot_be_listed(kubeflow: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="--limit is -1; give 1 or more"):
        call(status, "--limit", "-1")


def test_whoever_reads_no_further_hears_no_complaint(kubeflow: FakeKubeflow, start: Start) -> None:
    for name in ("one", "two", "three"):
        start(name)
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -0` does
    command = [sys.executable, "-m", "pipelines", "status"]
    ended = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)  # noqa: S603
    os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, "")


def test_times_are_from_the_first_begin_to_the_last_end(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "FAILED", message="pod deleted", goes_on=True)
    kubeflow.task(run_id, "train", "RUNNING", attempt=1)
    kubeflow.task(run_id, "train", "SUCCEEDED", attempt=1)
    (task,) = told(capsys, run_id)["tasks"]
    assert task["seconds"] == (_time(task["ended"]) - _time(task["started"])).total_seconds() == 2


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


# logs


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED"])
def test_logs_are_what_tasks_said_from_pods_and_from_archives(
    kubeflow: FakeKubeflow, start: Start, capsys: Read, state: str
) -> None:
    run_id = start()
    kubeflow.task(run_id, "plan", state, lines=["plan: 1", "", "plan: 2"])
    for item, trial in enumerate(("raw", "hqclip")):
        kubeflow.task(run_id, "train", state, item=item, trial=trial, lines=[f"{trial}: {n}" for n in range(4)])
    assert call(logs, run_id, "--tail", 3) == 0
    assert capsys.readouterr().out.splitlines() == [
        "[plan] plan: 1",
        "[plan] plan: 2",
        *[f"[train-{trial}] {trial}: {n}" for trial in ("raw", "hqclip") for n in (1, 2, 3)],
    ]
    assert call(logs, run_id, "--task", "train", "--tail", 1) == 0
    assert capsys.readouterr().out == "[train-raw] raw: 3\n[train-hqclip] hqclip: 3\n"
    assert call(logs, run_id, "--task", "train-hqclip", "--tail", 1) == 0
    assert capsys.readouterr().out == "[train-hqclip] hqclip: 3\n"
    with pytest.raises(NotFoundError, match="no task 'trian-raw' has begun; did you mean 'train-raw'.*so far plan, tr"):
        call(logs, run_id, "--task", "trian-raw")
    kubeflow.finish(run_id)
    with pytest.raises(NotFoundError, match="no task 'trian-raw'; did you mean 'train-raw'.*one of plan, train-raw"):
        call(logs, run_id, "--task", "trian-raw")


@pytest.mark.parametrize("code", [200, 500])
def test_logs_that_are_gone_are_said_to_be_gone_and_records_keep_their_end(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read, code: int
) -> None:
    kubeflow.no_log_code = code
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    kubeflow.task(run_id, "plan", "SUCCEEDED")
    with pytest.raises(NotFoundError, match=r"no log is left of plan; .*launch/ of the store$"):
        call(logs, run_id)
    pod = kubeflow.task(run_id, "train", "FAILED", status=0)
    write(run_id, "train", pod=pod, exit_code=65, last=("step 9", "hqclip train: nan"))
    assert call(logs, run_id) == 0
    read = capsys.readouterr()
    assert read.out == "[train] step 9\n[train] hqclip train: nan\n"
    assert "no log is left of plan, train: neither its pod nor an archive" in read.err
    assert len(kubeflow.asked("GET", "/log$")) <= 6, "what is not there is not asked for again and again"
    write(run_id, "train", pod=pod, exit_code=65, last=())
    with pytest.raises(NotFoundError, match=rf"; its page in Kubeflow: http://pages/#/runs/details/{run_id}$"):
        call(logs, run_id, "--ui", "http://pages")


@pytest.mark.parametrize("says", ["not served", "no such log"])
def test_where_kubeflow_reads_no_logs_of_pods_they_are_asked_of_kubernetes(
    kubeflow: FakeKubeflow, kubernetes: FakeCluster, start: Start, capsys: Read, says: str
) -> None:
    run_id = start()
    pod = kubeflow.task(run_id, "train", "RUNNING")
    spec = {"containers": [{"name": "main", "image": "x"}], "nodeName": "n1"}
    running = {"phase": "Running", "containerStatuses": [{"name": "main", "state": {"running": {}}}]}
    kubernetes.add("pods", {"metadata": {"name": pod}, "spec": spec, "status": running})
    kubernetes.log(pod, "step 1", container="main")
    if says == "not served":
        kubeflow.fail("GET", "/log$", 503, times=9)
    assert call(logs, run_id) == 0
    read = capsys.readouterr()
    assert (read.out, read.err) == ("[train] step 1\n", "")


def test_a_task_that_waits_has_not_lost_its_log(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "plan", "SUCCEEDED", lines=["plan: 1"])
    kubeflow.task(run_id, "finish", "PENDING")
    assert call(logs, run_id) == 0
    said = capsys.readouterr()
    assert said.out == "[plan] plan: 1\n"
    assert "nothing is to be read yet of finish: it has not begun" in said.err
    with pytest.raises(NotFoundError, match="finish: it has not begun"):
        call(logs, run_id, "--task", "finish")


def test_attempts_are_told_apart(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "FAILED", message="pod deleted", lines=["step 1"], goes_on=True)
    kubeflow.task(run_id, "train", "SUCCEEDED", attempt=1, lines=["continues at step 1"])
    assert call(logs, run_id) == 0
    assert capsys.readouterr().out == "[train 1/2] step 1\n[train 2/2] continues at step 1\n"
