"""How a run ended, as the exit task says it by the records of the tasks, whatever Kubeflow calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip.cycle import finish as finish_module
from hqclip.cycle import lock
from hqclip.cycle.finish import finish
from hqclip.errors import UnavailableError
from hqclip.records import Champion
from hqclip.store import Store, open_store
from hqclip.store.local import LocalStore
from hqclip.task_records import read_records
from tests.recording import all_well, tell

RUN = "7e742f44-dab6-40f8-97af-a1a752dcb362"
AGAIN = f"; `python -m pipelines explain {RUN}` says more; the same run again continues from here"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def outcome(store: Store) -> tuple[str, str]:
    """What the exit task tells the store of the run: how it ended and at which task."""
    (told,) = [record for record in read_records(store, RUN) if record.stage == "finish"]
    return told.decided["outcome"], told.decided["task"]


def test_a_run_that_went_well_says_what_came_of_it(store: Store) -> None:
    all_well(store, RUN, trials=("raw", "hqclip"))
    assert finish(store.uri, RUN) == "the run succeeded: promoted: average 50.0% against 40.0%"
    assert outcome(store) == ("succeeded", "")


def test_a_run_whose_winner_waits_says_so_and_what_stays_in_force(store: Store) -> None:
    all_well(store, RUN, trials=("raw", "hqclip"), until="promote")
    said = {"verdict": "waits for approval", "reason": "average 50.0%; `hqclip approve ...` puts it in force"}
    tell(store, RUN, "promote", 300.0, decided=said)
    before = Champion(model="runs/000001-raw/model", model_digest="a", evaluation="e", cycle=1)
    store.write("champion.json", before.to_json())
    assert finish(store.uri, RUN) == (
        "the run succeeded: waits for approval: average 50.0%; `hqclip approve ...` puts it in force; "
        "runs/000001-raw/model of cycle 1 is in force"
    )


def test_a_run_for_data_only_says_which(store: Store) -> None:
    all_well(store, RUN)
    assert finish(store.uri, RUN) == "the run succeeded: datasets/d/dataset.json"


def test_a_run_with_nothing_to_do_is_no_failure(store: Store) -> None:
    done = {"has_work": False, "reason": "cycle 1 is done: the same data, settings and champion", "locked_by": ""}
    tell(store, RUN, "plan", 1.0, decided=done)
    assert finish(store.uri, RUN) == f"there was nothing to do: {done['reason']}"
    assert outcome(store) == ("nothing_to_do", "")


def test_a_run_that_was_kept_out_says_by_whom(store: Store) -> None:
    why = "skipped: cycle 1 is being refined by run monday (seen 3 s ago); the next run goes on from what it leaves"
    tell(store, RUN, "plan", 1.0, decided={"has_work": False, "reason": why, "locked_by": "monday"})
    assert finish(store.uri, RUN) == f"nothing was done, {why}"
    assert outcome(store) == ("locked", "")


def test_a_failed_run_says_where_and_why_it_broke_first(store: Store) -> None:
    all_well(store, RUN, trials=("raw", "hqclip"), until="train")
    tell(store, RUN, "train", 300.0, 143, trial="raw", error="hqclip train: SIGTERM was received")
    tell(store, RUN, "train", 200.0, 65, trial="hqclip", error="hqclip train: the loss is nan", job={"name": "job-7"})
    why = "the run failed at train-hqclip: hqclip train: the loss is nan, exit code 65 (job job-7)"
    assert finish(store.uri, RUN) == why + AGAIN
    assert outcome(store) == ("failed", "train-hqclip")


def test_a_cancelled_run_says_so_and_what_was_under_way(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container is gone before every task can tell that it was told to end; the Workflow of the run knows."""
    monkeypatch.setattr(finish_module, "was_cancelled", lambda run: run == RUN)
    all_well(store, RUN, trials=("raw", "hqclip"), until="train")
    tell(store, RUN, "train", 300.0, 143, trial="raw", error="hqclip train: SIGTERM was received")
    tell(store, RUN, "train", 310.0, None, trial="hqclip")
    assert finish(store.uri, RUN) == "the run was cancelled, while train-raw and train-hqclip went on" + AGAIN
    assert outcome(store) == ("cancelled", "train-raw")


def test_what_failed_before_a_run_was_cancelled_is_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finish_module, "was_cancelled", lambda run: True)
    all_well(store, RUN, trials=("raw", "hqclip"), until="train")
    tell(store, RUN, "train", 200.0, 65, trial="hqclip", error="hqclip train: the loss is nan")
    why = "the run was cancelled; train-hqclip failed: hqclip train: the loss is nan, exit code 65"
    assert finish(store.uri, RUN) == why + AGAIN


def test_a_run_that_had_ended_well_was_not_cancelled(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody was too late."""
    monkeypatch.setattr(finish_module, "was_cancelled", lambda run: True)
    all_well(store, RUN, trials=("raw",))
    assert finish(store.uri, RUN).startswith("the run succeeded")


def test_where_nobody_can_be_asked_a_task_that_was_told_to_end_did_not_fail(store: Store) -> None:
    all_well(store, RUN, trials=("raw",), until="train")
    tell(store, RUN, "train", 300.0, 143, trial="raw", error="hqclip train: SIGTERM was received")
    assert finish(store.uri, RUN) == "the run was cancelled, or lost its machines, while train-raw went on" + AGAIN
    assert outcome(store) == ("cancelled", "train-raw")


def test_a_task_without_an_end_was_killed(store: Store) -> None:
    all_well(store, RUN, trials=("raw",), until="annotate")
    tell(store, RUN, "annotate", 200.0, None, pod="refine-x-1")
    assert "the run failed at annotate: pod refine-x-1 was killed without a word" in finish(store.uri, RUN)
    assert outcome(store) == ("failed", "annotate")


@pytest.mark.parametrize("exit_code", [None, 143, 69])
def test_an_attempt_that_was_lost_counts_no_more_once_another_went_well(store: Store, exit_code: int | None) -> None:
    tell(store, RUN, "annotate", 50.0, exit_code, pod="refine-x-1")
    all_well(store, RUN, trials=("raw",))
    assert finish(store.uri, RUN).startswith("the run succeeded")


@pytest.mark.parametrize(
    ("stage", "missing", "last"), [("train", "train-raw", "curate"), ("promote", "promote", "evaluate-hqclip")]
)
def test_a_task_that_never_began_was_refused(store: Store, stage: str, missing: str, last: str) -> None:
    """As `train` was, whose driver found a text where it wanted a mapping."""
    all_well(store, RUN, trials=("raw", "hqclip"), until=stage)
    said = f"the run failed: {missing} was refused before it began, after {last} had ended well"
    assert finish(store.uri, RUN) == said + AGAIN
    assert outcome(store) == ("failed", missing)


def test_a_run_whose_first_task_never_began_was_refused(store: Store) -> None:
    assert finish(store.uri, RUN) == "the run was refused before its first task began" + AGAIN
    assert outcome(store) == ("failed", "plan")


def test_a_trial_that_failed_is_named_where_the_cycle_went_on_without_it(store: Store) -> None:
    all_well(store, RUN, trials=("raw", "hqclip"))
    tell(store, RUN, "train", 150.0, 65, trial="raw", pod="p-150", error="hqclip train: the loss is nan")
    for key in list(store.list(f"pipelines/{RUN}/train-raw/")):
        if "p-150" not in key:
            store.delete(key)
    assert finish(store.uri, RUN).endswith("; train-raw failed: hqclip train: the loss is nan, exit code 65")


def test_it_lets_the_next_run_in_also_when_a_record_is_damaged(store: Store) -> None:
    lock.take(store, RUN, 1)
    store.write(f"pipelines/{RUN}/plan/p.json", b"{", create_only=False)
    assert "refused before its first task" in finish(store.uri, RUN)
    assert lock.take(store, "tuesday", 1) is None


def test_a_store_out_of_reach_is_said_and_breaks_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise UnavailableError("no answer for 120 s")

    for operation in ("write", "stat", "list"):
        monkeypatch.setattr(LocalStore, operation, gone)
    assert finish(store.uri, RUN) == "the run has ended, but not all is known of it: no answer for 120 s"
    assert "the record of this task was not written: no answer" in capsys.readouterr().err


def test_the_exit_task_takes_nothing_that_can_keep_it_from_running() -> None:
    """A status, which Kubeflow gives, keeps it from running where an execution in the run was doubled."""
    from components.finish import finish as component

    assert set(component.component_spec.inputs) == {"store", "owner"}
