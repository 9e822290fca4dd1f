"""`explain`: which task of a run broke first, and why, by its workflow, its logs and its records."""

from __future__ import annotations

from typing import Any

import pytest

from hqclip.task_records import NOT_RECORDED
from pipelines.client import explain
from pipelines.client.reasons import kind_of, telling_line
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call
from tests.kubeflow_runs import Read, Start, Write, shown

REFUSAL = 'input parameter "point" type mismatch: expect STRUCT, got string'
FORBIDDEN = 'pods "x" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'


def why(capsys: Read, run_id: str) -> list[dict[str, Any]]:
    assert call(explain, run_id, "-o", "json") == 0
    return list(shown(capsys)["reasons"])


def outcome(capsys: Read, run_id: str) -> str:
    assert call(explain, run_id, "-o", "json") == 0
    return str(shown(capsys)["outcome"])


def test_a_failure_is_explained_by_what_the_stage_said(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    fault = "hqclip curate: gs://b/0.tar: 312 of 10000 samples have no image"
    said = ["a tool ended with exit status 1", fault, "hqclip curate: 3 of 9 shards, 1/s"]
    kubeflow.task(run_id, "curate", "FAILED", status=65, lines=said)
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert (reason["task"], reason["reason"], reason["exit_code"]) == ("curate", "data", 65)
    assert reason["line"] == fault
    assert reason["next"] == f"python -m pipelines logs {run_id} --task curate"


def test_a_day_later_the_record_is_enough(kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read) -> None:
    run_id = start()
    error = "hqclip train: the gradient is not finite (loss nan); lower learning_rate"
    write(run_id, "plan")
    write(run_id, "train", trial="bad", exit_code=65, reason="data", error=error, job={"name": "hqclip-train-1"})
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert reason["task"] == "train-bad"
    assert (reason["reason"], reason["exit_code"], reason["line"]) == ("data", 65, error)
    assert not kubeflow.asked("GET", "/log$")


def test_a_trial_that_failed_is_named_though_its_pod_ended_well(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    pods = [kubeflow.task(run_id, "train", "SUCCEEDED", item=item) for item in range(2)]
    write(run_id, "train", trial="good", pod=pods[0])
    write(run_id, "train", trial="bad", pod=pods[1], exit_code=73, reason="conflict", error="hqclip train: it exists")
    write(run_id, "select", pod=kubeflow.task(run_id, "select", "FAILED", status=73), exit_code=73, reason="conflict")
    kubeflow.finish(run_id, "FAILED")
    first = why(capsys, run_id)[0]
    assert (first["task"], first["reason"], first["line"]) == ("train-bad", "conflict", "hqclip train: it exists")


def test_who_did_not_say_how_it_ended_was_killed(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start()
    write(run_id, "train", exit_code=None)
    assert why(capsys, run_id) == [], "it may be under way"
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert reason["line"] == "it was killed: it did not say how it ended"


@pytest.mark.parametrize(
    ("lines", "code", "kind"),
    [(["ValueError: three"], 1, "bug"), (["it is not installed"], 78, "software"), ([], 0, "unknown")],
)
def test_the_launchers_own_exit_code_says_nothing_of_the_stage(
    kubeflow: FakeKubeflow, start: Start, capsys: Read, lines: list[str], code: int, kind: str
) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "FAILED", status=code, lines=lines)
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert reason["reason"] == kind


def test_a_killed_container_is_out_of_memory(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "score", "FAILED", message="OOMKilled (exit code 137)", lines=["epoch 1"])
    kubeflow.finish(run_id, "FAILED")
    assert call(explain, run_id) == 0
    read = capsys.readouterr().out
    assert "out_of_memory" in read
    assert "smaller batches" in read


def test_what_broke_first_is_blamed_and_the_others_are_named(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    run_id = start()
    for item, trial in ((1, "late"), (0, "first")):
        kubeflow.task(run_id, "train", "RUNNING", item=item, trial=trial)
    for item, trial in ((0, "first"), (1, "late")):
        kubeflow.task(run_id, "train", "FAILED", item=item, trial=trial, status=65, lines=[f"hqclip train: {trial}"])
    kubeflow.task(run_id, "finish", "FAILED", status=69, lines=["hqclip finish: no store"])
    kubeflow.finish(run_id, "FAILED")
    assert [reason["line"] for reason in why(capsys, run_id)] == [
        "hqclip train: first",
        "hqclip train: late",
        "hqclip finish: no store",
    ]
    assert call(explain, run_id) == 0
    read = capsys.readouterr()
    assert read.out.count("exit_code") == 1
    assert "also FAILED: train-late, finish" in read.err


def test_what_kubeflows_driver_refuses_is_explained_by_its_log(
    kubeflow: FakeKubeflow, start: Start, capsys: Read
) -> None:
    run_id = start()
    kubeflow.refuse(run_id, "train", REFUSAL, item=0)
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert (reason["task"], reason["reason"], reason["line"]) == ("train-item-1", "refused", REFUSAL)
    assert reason["next"] == "python -m pipelines lint"


@pytest.mark.parametrize(
    ("state", "message", "kind"),
    [
        ("FAILED", FORBIDDEN, "pod_security"),
        ("PENDING", 'CreateContainerConfigError: secret "hub" not found', "missing_secret"),
        ("PENDING", "ImagePullBackOff: Back-off pulling image", "image"),
        ("PENDING", "Unschedulable: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu", "no_machines"),
    ],
)
def test_what_cannot_begin_is_explained_while_kubeflow_tries_for_ever(
    kubeflow: FakeKubeflow, start: Start, capsys: Read, state: str, message: str, kind: str
) -> None:
    run_id = start()
    for attempt in range(3):
        kubeflow.task(run_id, "plan", state, message=message, attempt=attempt, goes_on=True)
    (reason,) = why(capsys, run_id)
    assert (reason["task"], reason["state"], reason["reason"], reason["line"]) == ("plan", "PENDING", kind, message)
    assert reason["next"] == f"python -m pipelines cancel {run_id}"
    assert f"held up at plan ({kind}): {message}" in outcome(capsys, run_id)


def test_a_launched_stage_is_explained_with_its_job(
    kubeflow: FakeKubeflow, start: Start, write: Write, capsys: Read
) -> None:
    run_id = start(plan_launch="gs://bucket/launch.yaml")
    said = "hqclip launch: rank 3 was killed"
    kubeflow.task(run_id, "train", "FAILED", status=70, lines=["hqclip launch: j is running, 2 of 2 pods run", said])
    kubeflow.finish(run_id, "FAILED")
    (reason,) = why(capsys, run_id)
    assert (reason["reason"], reason["line"]) == ("crash_loop", said)
    assert "every end of the pods of its job is in" in reason["advice"]
    assert "/launch/" in reason["advice"]


def test_a_run_without_a_failed_task_says_what_is_known(kubeflow: FakeKubeflow, start: Start, capsys: Read) -> None:
    run_id = start()
    kubeflow.task(run_id, "train", "RUNNING")
    assert call(explain, run_id) == 0
    assert "it is not over: train under way" in capsys.readouterr().out
    other = start()
    kubeflow.finish(other, "FAILED")
    assert call(explain, other) == 0
    assert "it failed, and Kubeflow names no task that did" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "exit_code", "kind"),
    [
        ("OOMKilled", 137, "out_of_memory"),
        ("torch.OutOfMemoryError: CUDA out of memory", 1, "out_of_memory"),
        ("ImagePullBackOff: back-off pulling image", None, "image"),
        ("The node was low on resource: Evicted", None, "machine_lost"),
        ("0/12 nodes are available: Insufficient nvidia.com/gpu", None, "no_machines"),
        ('pods "x" is forbidden: exceeded quota: team', None, "no_machines"),
        (FORBIDDEN, None, "pod_security"),
        ('pods "x" is forbidden: User cannot create resource', None, "access"),
        ('secret "hub" not found', None, "missing_secret"),
        ("wait: Error (exit code 64): failed to put file: The bucket does not exist", None, "kubeflow"),
        ('Internal error occurred: failed calling webhook "mpod.kb.io": EOF', None, "webhook"),
        ("Step exceeded its deadline", None, "timeout"),
        ("main: Error (exit code 64)", None, "setting"),
        ("main: Error (exit code 66)", None, "not_found"),
        ("", 69, "service"),
        ("", 73, "conflict"),
        ("", 74, "storage"),
        ("", 75, "stopped"),
        ("", 77, "access"),
        ("", 78, "software"),
        ("", 143, "stopped"),
        ("", 1, "bug"),
        ("", 42, "unknown"),
        ("", None, "unknown"),
    ],
)
def test_reasons_have_kinds(text: str, exit_code: int | None, kind: str) -> None:
    assert kind_of([text], exit_code) == kind


@pytest.mark.parametrize(
    ("lines", "line"),
    [
        (["hqclip train: step 1", "hqclip train: it broke", "bye"], "hqclip train: it broke"),
        (
            ["Traceback (most recent call last):", '  File "x"', "ValueError: three", "exit status 1"],
            "ValueError: three",
        ),
        (["a", "torch.OutOfMemoryError: CUDA", ""], "torch.OutOfMemoryError: CUDA"),
        (["hqclip plan: no bucket", f"hqclip plan: {NOT_RECORDED}: no bucket"], "hqclip plan: no bucket"),
        (["a", "b", "  "], "b"),
        ([], ""),
    ],
)
def test_one_line_tells_most(lines: list[str], line: str) -> None:
    assert telling_line(lines) == line
