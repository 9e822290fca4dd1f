"""Which lines of a pod's log are ours, and what Kubeflow says in it."""

from __future__ import annotations

import pytest

from pipelines.client.task_logs import driver_fault, exit_status, our_lines
from tests.fakes.kubeflow_workflows import spoken


def test_ours_is_what_is_between_the_lines_of_kubeflow() -> None:
    said = ["hqclip train: starts", "  indented", "[0] W1128 02:56:26.25 1 torch/api.py:753] closing", "step 1"]
    assert our_lines(spoken(said)) == said
    assert our_lines(spoken(said, status=65)) == said
    assert our_lines(spoken([])) == []


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_log_that_begins_anywhere_in_what_kubeflow_prints_does_not_leave_pieces_of_it(cut: int) -> None:
    assert our_lines(spoken(["one", "two"])[cut:]) == ["one", "two"]


def test_json_that_a_task_prints_is_its_own() -> None:
    said = ["a result:", "{", '  "loss": 1', "}", "the end"]
    assert our_lines(spoken(said)) == said


def test_what_a_task_ended_with_is_told_by_the_launcher_alone() -> None:
    assert exit_status(spoken(["a tool ended with exit status 3"], status=66)) == 66
    assert exit_status(spoken(["a tool ended with exit status 3"])) is None


def test_a_driver_gives_its_reason_last() -> None:
    line = "F1128 02:41:05.258988      16 main.go:127] KFP driver: driver.Container(a(b)) failed: failed to resolve: x"
    assert driver_fault(["{", "}", "I1128 02:41:05.2 16 main.go:1] starts", line]) == "failed to resolve: x"
    assert driver_fault(["{", "}"]) == ""
