"""What the records of many agents say together: which was first to break, and when to stop trying."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip.agent.exit_agreement import ExitAgreement, publish
from hqclip.errors import CrashLoopError, DataError
from hqclip.launch.attempts import (
    Attempt,
    begin,
    end,
    end_record,
    progress_mark,
    read_attempts,
    refuse_crash_loop,
    root_cause,
)
from hqclip.launch.exit_status import ExitStatus, agent_exit_status, broke_first, read_error, write_error_file
from hqclip.store.local import LocalStore


def agent(
    store: LocalStore, code: int, *, node: int = 0, progress: str = "", after: str = "", message: str = "it broke"
) -> Attempt:
    """One that begins and ends, `after` that where it did not end where it began."""
    begun = begin(store, "j", node=node, attempt="", pod="", progress=progress)
    exit_status = ExitStatus(exit_code=code, rank=node, message=message, timestamp=begun.begun + 1)
    end(store, "j", begun, end_record(begun, exit_status, after or progress, 1.0))
    return begun


def attempt(node: int, number: int, begun: float, exit_status: ExitStatus | None) -> Attempt:
    return Attempt(node=node, number=number, attempt="", pod="", begun=begun, progress="", exit_status=exit_status)


def broke(code: int, at: float, rank: int | None = 0, message: str = "it broke") -> ExitStatus:
    return ExitStatus(exit_code=code, rank=rank, message=message, timestamp=at)


def test_records_are_read_as_they_were_written(tmp_path: Path):
    store = LocalStore(tmp_path)
    begun = begin(store, "j", node=10, attempt="2", pod="pod-10", progress="steps/1")
    assert read_attempts(store, "j") == [begun]
    exit_status = ExitStatus(exit_code=1, rank=81, message="größe", traceback="line 1\nline 2", timestamp=12.5)
    end(store, "j", begun, end_record(begun, exit_status, "steps/3", 60.0004))
    (read,) = read_attempts(store, "j")
    assert (read.name, read.attempt, read.pod, read.progress, read.progress_after) == (
        ("10-0001", "2", "pod-10", "steps/1", "steps/3")
    )
    assert (read.exit_status, read.seconds) == (exit_status, 60.0)


def test_every_agent_of_a_node_has_its_own_number(tmp_path: Path):
    store = LocalStore(tmp_path)
    names = [begin(store, "j", node=node, attempt="", pod="", progress="").name for node in (1, 10, 1, 1)]
    assert names == ["1-0001", "10-0001", "1-0002", "1-0003"]
    assert [attempt.name for attempt in read_attempts(store, "j")] == ["1-0001", "10-0001", "1-0002", "1-0003"]


def test_a_record_that_is_none_is_named(tmp_path: Path):
    LocalStore(tmp_path).write("launch/j/attempts/0-0001.json", b"{}")
    with pytest.raises(DataError, match="launch/j/attempts/0-0001.json"):
        read_attempts(LocalStore(tmp_path), "j")


def test_the_mark_is_the_last_key(tmp_path: Path):
    store = LocalStore(tmp_path)
    assert progress_mark(store, "steps/") == progress_mark(store, "") == ""
    for name in ("steps/000009", "steps/000010", "zzz"):
        store.write(name, b"")
    assert progress_mark(store, "steps/") == "steps/000010"


@pytest.mark.parametrize(
    ("codes", "marks", "now", "refused"),
    [
        ((1, 1), ("a", "a"), "a", True),
        ((137, 64), ("a", "a"), "a", True),
        ((1, 1), ("a", "b"), "b", False),  # it got further before it failed again
        ((1, 1), ("a", "a"), "b", False),  # something was finished since
        ((1,), ("a",), "a", False),
        ((1, 143), ("a", "a"), "a", False),  # stopped from outside, not broken
        ((75, 1), ("a", "a"), "a", False),
        ((1, 1, 0), ("a", "a", "a"), "a", False),
        ((0, 1, 1), ("a", "a", "a"), "a", True),
    ],
)
def test_the_same_work_that_fails_twice_is_refused(
    tmp_path: Path, codes: tuple[int, ...], marks: tuple[str, ...], now: str, refused: bool
):
    store = LocalStore(tmp_path)
    for code, mark in zip(codes, marks, strict=True):
        agent(store, code, progress=mark)
    begin(store, "j", node=0, attempt="", pod="", progress=now)  # killed, or the one that asks
    for code in (1, 1, 1):
        agent(store, code, node=1, progress=now)  # of another node
    refuse_crash_loop(store, "j", 0, 0, now)
    if refused:
        with pytest.raises(CrashLoopError, match="node 0 failed 2 times in a row after a, .* exit code"):
            refuse_crash_loop(store, "j", 0, 2, now)
    else:
        refuse_crash_loop(store, "j", 0, 2, now)


def test_a_failure_that_ends_further_than_it_began_is_not_counted(tmp_path: Path):
    store = LocalStore(tmp_path)
    agent(store, 1, progress="", after="a")  # days of work, then a machine broke
    refuse_crash_loop(store, "j", 0, 1, "a")
    agent(store, 1, progress="a")
    refuse_crash_loop(store, "j", 0, 2, "a")
    agent(store, 1, progress="a")
    with pytest.raises(CrashLoopError):
        refuse_crash_loop(store, "j", 0, 2, "a")


def test_a_refusal_says_what_failed_not_that_it_refused_before(tmp_path: Path):
    store = LocalStore(tmp_path)
    agent(store, 65, message="shard 7 is damaged")
    agent(store, 70, message="node 0 failed")
    with pytest.raises(CrashLoopError, match="before anything was done.*exit code 65: shard 7 is damaged"):
        refuse_crash_loop(store, "j", 0, 2, "")


def test_the_first_failure_is_the_cause():
    assert broke_first([]) is None
    assert broke_first([broke(0, 1), broke(143, 2), broke(-15, 3), broke(75, 4)]) is None
    assert broke_first([broke(1, 20), first := broke(1, 10), broke(143, 1)]) is first


def test_what_cannot_be_a_consequence_comes_before_what_may_be_one_moments_earlier():
    lost_connection = broke(1, 100.0)
    for cause in (broke(64, 101.0, rank=3), broke(-9, 101.0, rank=3), broke(137, 101.0, rank=3)):
        assert broke_first([lost_connection, cause]) is cause
    killed_after_it_hung = broke(-9, 130.0, rank=3)
    assert broke_first([lost_connection, killed_after_it_hung]) is lost_connection
    follows_another_agent = broke(64, 99.0, rank=None)
    assert broke_first([follows_another_agent, lost_connection]) is lost_connection


def test_an_agent_ends_with_what_tells_a_scheduler_something():
    codes = {-9: 137, 137: 137, -15: 143, 143: 143, 0: 0, 64: 64, 78: 78, 75: 75, 69: 1, 74: 1, 3: 1, -11: 1}
    assert {code: agent_exit_status(broke(code, 0)).exit_code for code in codes} == codes


def test_an_end_goes_through_the_error_file_of_torchrun(tmp_path: Path):
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

    told = ExitStatus(exit_code=1, rank=5, message="ValueError: x", traceback="line 7", timestamp=1e9 + 0.25)
    write_error_file(tmp_path / "error.json", told)
    failure = ProcessFailure(local_rank=1, pid=1, exitcode=1, error_file=str(tmp_path / "error.json"))
    assert failure.timestamp == int(1e9)
    assert read_error(failure.error_file_data, failure.exitcode, 5) == told


def test_a_process_that_left_no_word_is_described_by_its_code():
    assert "SIGKILL" in read_error({"message": "<NONE>"}, -9, 2).message
    assert read_error({}, -11, 2).message == "rank 2 was ended by SIGSEGV"
    assert read_error({}, 7, 2).message == "rank 2 ended with exit code 7 and said nothing"


def test_the_cause_is_sought_in_the_newest_attempt():
    first = [attempt(0, 1, 0, broke(65, 100)), attempt(1, 1, 5, broke(65, 101, rank=None))]
    assert root_cause(first) is first[0]
    assert root_cause([*first, attempt(0, 2, 110, None), attempt(1, 2, 115, None)]) is None
    second = [attempt(0, 2, 110, broke(1, 200, rank=2)), attempt(1, 2, 115, broke(137, 201, rank=9))]
    assert root_cause([*first, *second]) is second[1]
    assert root_cause([]) is None


def test_a_node_that_did_not_take_part_in_the_newest_attempt_is_not_its_cause():
    old = [attempt(0, 1, 0, broke(1, 100)), attempt(1, 1, 0, broke(137, 99, rank=8))]
    newest = attempt(0, 2, 110, broke(1, 200))
    assert root_cause([*old, newest]) is newest


def test_a_replica_that_gave_up_is_the_cause_although_others_were_done_later():
    gave_up = attempt(1, 1, 0, broke(65, 300))
    assert root_cause([attempt(0, 1, 0, broke(1, 100)), attempt(0, 2, 110, broke(0, 400)), gave_up]) is gave_up


def test_an_agreement_is_on_what_was_not_there_before(tmp_path: Path):
    store, slept = LocalStore(tmp_path), [0.0]
    publish(store, "j", "1-0001", 64)
    agreement = ExitAgreement(store, "j")

    def sleep(seconds: float) -> None:
        slept[0] += seconds
        if slept[0] >= 5:
            publish(store, "j", "2-0002", 65)

    assert agreement.wait(4, clock=lambda: slept[0], sleep=sleep) is None
    assert agreement.wait(10, until=lambda: True, clock=lambda: slept[0], sleep=sleep) is None
    assert agreement.wait(10, clock=lambda: slept[0], sleep=sleep) == ("2-0002", 65)
    publish(store, "j", "2-0002", 65)  # by its rank, and again by its agent
    assert slept[0] == 5
