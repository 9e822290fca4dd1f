"""Real agents with real ranks: what a scheduler, a launcher and a person are told about how they ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from hqclip.agent import agent as agent_module
from hqclip.agent.agent import run_agent
from hqclip.agent.stop import Stop
from hqclip.agent.termination_message import LIMIT_BYTES, shortened
from hqclip.errors import ConfigError
from hqclip.launch import attempts
from hqclip.launch.attempts import Attempt, read_attempts, root_cause
from hqclip.launch.job import REPLICAS, Job
from hqclip.store.local import LocalStore
from tests.launching import bare_job

ROOT = Path(__file__).parents[1]
PATIENCE_S = 240.0
KEY = "j/1"


def job(folder: Path, act: str, *, on: int = -1, **given: Any) -> Job:
    """A job in the store; two ranks on a node that do `act`, unless told otherwise."""
    others = given.pop("others", "wait")
    store = str(folder / "store")
    asked = {"store": store, "act": act, "on": on, "others": others}
    made = bare_job(store, **{"digest": "d", "stage": "fake", "settings": asked, "nproc": 2, **given})
    LocalStore(folder / "store").write(f"launch/{KEY}/job.json", made.to_json())
    return made


def start(folder: Path, node: str = "0", **environ: str) -> subprocess.Popen[str]:
    """An agent, as its container would start it."""
    asked = {
        "HQCLIP_NODE": node,
        "HQCLIP_TERMINATION_LOG": str(folder / f"last-words-{node}"),
        "OMP_NUM_THREADS": "1",
        **environ,
    }
    command = [sys.executable, "-m", "tests.fakes.stages", str(folder / "store"), KEY]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **asked},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(agent: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = agent.communicate(timeout=PATIENCE_S)
    return agent.returncode, out, err


def until(folder: Path, pattern: str, number: int = 1) -> list[Path]:
    """Wait until the store has so many of such files."""
    patience = time.monotonic() + PATIENCE_S
    while len(found := [p for p in sorted((folder / "store").glob(pattern)) if p.name[0] != "."]) < number:
        assert time.monotonic() < patience, f"no {pattern}"
        time.sleep(0.05)
    return found


def only_attempt(folder: Path) -> Attempt:
    (attempt,) = read_attempts(LocalStore(folder / "store"), KEY)
    return attempt


def terminated(folder: Path, node: str = "0") -> dict[str, Any]:
    said: dict[str, Any] = json.loads((folder / f"last-words-{node}").read_text())
    return said


def test_a_gang_meets_and_leaves_its_result(tmp_path: Path):
    script = tmp_path / "plugin.sh"
    script.write_text("echo loading\nPLUGIN=fast\nunset UNWANTED\n")
    job(tmp_path, "meet", environment_script=str(script))
    code, out, err = end(start(tmp_path, HQCLIP_ATTEMPT="3", HQCLIP_POD="pod-0"))
    assert code == 0, err
    assert sorted(line for line in out.splitlines() if "met" in line) == ["[0] met 2", "[1] met 2"]
    result = json.loads((tmp_path / "store/launch/j/1/result.json").read_text())
    # the scheduler's own count is no more than what it makes of it: this node has begun once
    assert result == {"total": 3.0, "threads": "1", "plugin": "fast", "attempt": "0"}
    attempt = only_attempt(tmp_path)
    assert (attempt.node, attempt.number, attempt.attempt, attempt.pod) == (0, 1, "3", "pod-0")
    assert attempt.exit_status is not None
    assert (attempt.exit_status.exit_code, attempt.exit_status.rank, terminated(tmp_path)["exit_code"]) == (
        0,
        None,
        0,
    )


def test_ranks_know_how_often_their_node_has_begun_whatever_the_scheduler_counts(tmp_path: Path):
    job(tmp_path, "meet")
    for attempt in range(2):  # as after a preemption by Kueue, of which JobSet does not count anything
        code, _, err = end(start(tmp_path, HQCLIP_ATTEMPT="0"))
        assert code == 0, err
        result = tmp_path / "store/launch/j/1/result.json"
        assert json.loads(result.read_text())["attempt"] == str(attempt)
        result.unlink()


def test_nodes_without_names_meet_by_the_store(tmp_path: Path):
    job(tmp_path, "meet", nodes=2, nproc=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    LocalStore(tmp_path / "store").write(
        f"launch/{KEY}/node-0.json", b'{"address":"127.0.0.9"}'
    )  # of an attempt before
    agents = [
        start(tmp_path, node, HQCLIP_RENDEZVOUS=f":{port}", HQCLIP_POD_IP=f"127.0.0.{1 + int(node)}")
        for node in ("1", "0")
    ]
    ends = [end(agent) for agent in agents]
    assert [code for code, _, _ in ends] == [0, 0], ends
    assert all("met 2" in out for _, out, _ in ends)


def test_a_fault_for_people_is_permanent_and_shared(tmp_path: Path):
    job(tmp_path, "fault", on=1)
    code, _, err = end(start(tmp_path))
    assert code == 64
    assert "[1] hqclip j/1: the batch is odd" in err
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert (exit_status.exit_code, exit_status.rank, exit_status.message) == (
        64,
        1,
        "the batch is odd; give an even one",
    )
    assert json.loads((tmp_path / "store/launch/j/1/verdicts/0-0001.json").read_text())["exit_code"] == 64
    assert not (tmp_path / "store/launch/j/1/result.json").exists()


def test_a_bug_is_told_with_the_traceback_of_the_rank_that_has_it(tmp_path: Path):
    job(tmp_path, "bug", on=1)
    assert end(start(tmp_path))[0] == 1
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert (exit_status.rank, exit_status.message) == (1, "ZeroDivisionError: in rank 1")
    assert 'raise ZeroDivisionError(f"in rank' in exit_status.traceback
    assert terminated(tmp_path)["traceback"] == exit_status.traceback
    assert terminated(tmp_path)["rank"] == 1


def test_a_killed_rank_is_told_from_those_that_were_stopped_for_it(tmp_path: Path):
    job(tmp_path, "kill", on=1)
    assert end(start(tmp_path))[0] == 137
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert (exit_status.exit_code, exit_status.rank) == (137, 1)
    assert "out of memory" in exit_status.message


def test_a_stopped_gang_ends_when_its_ranks_have_kept_what_was_finished(tmp_path: Path):
    job(tmp_path, "wait")
    agent = start(tmp_path)
    ranks = until(tmp_path, "waiting/*", 2)
    agent.send_signal(signal.SIGTERM)
    assert end(agent)[0] == 143
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert (exit_status.exit_code, exit_status.failed) == (143, False)
    assert not any(psutil.pid_exists(int(rank.name)) for rank in ranks)


def test_ranks_do_not_outlive_an_agent_that_was_killed(tmp_path: Path):
    job(tmp_path, "wait", shutdown_s=2.0)
    agent = start(tmp_path)
    ranks = [psutil.Process(int(path.name)) for path in until(tmp_path, "waiting/*", 2)]
    agent.kill()
    agent.communicate()
    _, alive = psutil.wait_procs(ranks, timeout=PATIENCE_S)
    assert alive == []


def test_a_gang_whose_launcher_is_gone_stops_and_can_be_continued(tmp_path: Path):
    job(tmp_path, "wait", lease_stale_s=6.0)
    agent = start(tmp_path)  # nobody writes a lease
    code, _, _ = end(agent)
    assert code == 75
    assert "lease" in terminated(tmp_path)["message"]


@pytest.mark.slow
def test_nodes_whose_ranks_stop_with_those_of_another_that_lost_the_launcher_end_as_it_does(tmp_path: Path):
    job(tmp_path, "wait", nodes=2, nproc=1, lease_stale_s=60.0)  # by then the ranks have met, on a busy machine too
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    first = start(tmp_path, "0", HQCLIP_RENDEZVOUS=endpoint)
    until(tmp_path, "launch/j/1/attempts/0-0001.json")
    time.sleep(10)
    second = start(tmp_path, "1", HQCLIP_RENDEZVOUS=endpoint)  # it would notice so much later
    until(tmp_path, "launch/j/1/verdicts/0-0001.json")
    for rank in until(tmp_path, "waiting/*"):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(int(rank.name)).terminate()  # as ranks agree to stop
    assert [end(agent)[0] for agent in (first, second)] == [75, 75], "143 would start the gang again"
    assert terminated(tmp_path, "1")["message"].startswith("ends as agent 0-0001 does, which ended first")


def test_two_nodes_end_with_the_code_of_the_one_that_broke(tmp_path: Path):
    job(tmp_path, "fault", on=1, nodes=2, nproc=1)
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    agents = [start(tmp_path, node, HQCLIP_RENDEZVOUS=endpoint) for node in ("1", "0")]
    until(tmp_path, "launch/j/1/verdicts/1-0001.json")
    (other,) = until(tmp_path, "waiting/*")
    psutil.Process(int(other.name)).kill()  # as a broken connection ends it: that does not tell why
    assert [end(agent)[0] for agent in agents] == [64, 64]
    attempts = read_attempts(LocalStore(tmp_path / "store"), KEY)
    assert [attempt.exit_status and attempt.exit_status.exit_code for attempt in attempts] == [64, 64]
    cause = root_cause(attempts)
    assert cause is not None
    assert (cause.node, cause.exit_status and cause.exit_status.rank) == (1, 1)
    told = terminated(tmp_path, "0")["message"]
    assert told.startswith("ends as agent 1-0001 does, which ended first; here: rank 0 was killed")


def test_what_broke_is_told_though_the_agent_is_stopped_while_its_other_ranks_hang(tmp_path: Path):
    job(tmp_path, "bug", on=1, others="hang", shutdown_s=1.0)
    agent = start(tmp_path, TMPDIR=str(tmp_path))
    until(tmp_path, "../.hqclip-*.tmp/**/error.json")
    agent.send_signal(signal.SIGTERM)
    assert end(agent)[0] == 1
    assert (terminated(tmp_path)["rank"], terminated(tmp_path)["message"]) == (
        1,
        "ZeroDivisionError: in rank 1",
    )


def test_an_agent_ends_with_the_launcher_that_started_it(tmp_path: Path):
    job(tmp_path, "wait")
    assert end(start(tmp_path, HQCLIP_PARENT="1"))[0] == 75


def test_a_gang_on_one_node_starts_again_in_place(tmp_path: Path):
    job(tmp_path, "once", on=0, restarts_in_place=1)
    agent = start(tmp_path)
    until(tmp_path, "died")
    until(tmp_path, "launch/j/1/result.json")
    agent.send_signal(signal.SIGTERM)  # rank 1 waits for it
    code, _, err = end(agent)
    assert code == 143
    assert "rank 0 was killed" in err
    assert "starts again in 1 s" in err


def test_a_replica_that_dies_starts_again_in_place(tmp_path: Path):
    job(tmp_path, "once", shape=REPLICAS, nodes=3, restarts_in_place=1)
    code, _, err = end(start(tmp_path, "2", RANK="5", WORLD_SIZE="8"))
    assert code == 0
    assert "rank 2 was killed" in err
    assert json.loads((tmp_path / "store/launch/j/1/result.json").read_text()) == {"rank": "none"}


@pytest.mark.parametrize(("act", "code"), [("fault", 64), ("bug", 1)])
def test_a_replica_is_started_again_only_where_that_may_help(tmp_path: Path, act: str, code: int):
    job(tmp_path, act, shape=REPLICAS, restarts_in_place=1)
    ended, _, err = end(start(tmp_path))
    assert ended == code
    assert ("starts again" in err) == (act == "bug")


def test_a_stopped_replica_passes_it_on(tmp_path: Path):
    job(tmp_path, "wait", shape=REPLICAS, restarts_in_place=3)
    agent = start(tmp_path)
    (rank,) = until(tmp_path, "waiting/*")
    agent.send_signal(signal.SIGTERM)
    assert end(agent)[0] == 143
    assert not psutil.pid_exists(int(rank.name))


def test_a_node_that_fails_without_getting_further_is_not_tried_a_third_time(tmp_path: Path):
    job(tmp_path, "fault", shape=REPLICAS, no_progress_attempts=2, progress="steps/")
    assert [end(start(tmp_path))[0] for _ in range(3)] == [64, 64, 70]
    said = terminated(tmp_path)["message"]
    assert said.startswith("node 0 failed 2 times in a row before anything was done")
    assert "exit code 64: the batch is odd" in said


@pytest.mark.parametrize(
    ("node", "damage", "code", "reason"),
    [
        ("0", "missing", 66, "no such"),
        ("0", "damaged", 65, "not a job"),
        ("", "", 64, "HQCLIP_NODE is ''; give the number of this node, 0 to 0"),
        ("x", "", 64, "HQCLIP_NODE is 'x'"),
        ("1", "", 64, "HQCLIP_NODE is '1'"),
        ("0", "script", 78, "ended with exit code 3: no such network"),
        ("0", "closed", 77, "Permission denied"),
    ],
)
def test_an_agent_that_cannot_begin_says_why(tmp_path: Path, node: str, damage: str, code: int, reason: str):
    script = tmp_path / "network.sh"
    script.write_text("echo no such network >&2\nexit 3\n")
    job(tmp_path, "meet", environment_script=str(script) if damage == "script" else "")
    there = tmp_path / "store/launch/j/1/job.json"
    if damage == "missing":
        there.unlink()
    elif damage == "damaged":
        there.write_text("{}")
    elif damage == "closed":
        there.unlink()
        there.symlink_to("/proc/1/mem")
    agent = start(tmp_path, node)
    ended, _, err = end(agent)
    assert (ended, reason in err) == (code, True), err
    assert reason in terminated(tmp_path, node)["message"]


def test_an_agent_stops_at_once_while_nothing_runs(tmp_path: Path):
    job(tmp_path, "meet", nodes=2, nproc=1)
    agent = start(tmp_path, "1", HQCLIP_RENDEZVOUS="127.0.0.1:9")  # nobody is there
    until(tmp_path, "launch/j/1/attempts/1-0001.json")
    agent.send_signal(signal.SIGTERM)
    assert end(agent)[0] == 143
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert exit_status.exit_code == 143


@pytest.fixture
def stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stop]:
    """For an agent in this process, that of node 1."""
    monkeypatch.setenv("HQCLIP_NODE", "1")
    monkeypatch.setenv("HQCLIP_TERMINATION_LOG", str(tmp_path / "last-words-1"))
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    stop = Stop()
    stop.listen()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stop_between_its_record_and_its_work_leaves_the_record_of_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Stop
):
    job(tmp_path, "meet", nodes=2, nproc=1)
    begin = attempts.begin

    def begin_and_be_stopped(*where: Any, **given: Any) -> Attempt:
        begun = begin(*where, **given)
        os.kill(os.getpid(), signal.SIGTERM)
        return begun

    monkeypatch.setattr(attempts, "begin", begin_and_be_stopped)
    assert run_agent([str(tmp_path / "store"), KEY], stop, "tests.fakes.stages") == 143
    exit_status = only_attempt(tmp_path).exit_status
    assert exit_status is not None
    assert exit_status.exit_code == 143


def test_a_stop_while_the_store_is_asked_for_node_0_is_no_fault_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: Stop
):
    def asked(*_: object) -> str:
        """As botocore, which takes any Exception for a fault of the line."""
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(PATIENCE_S)
        raise ConfigError("it was asked again")

    job(tmp_path, "meet", nodes=2, nproc=1, rendezvous_timeout_s=1.0)
    monkeypatch.setenv("HQCLIP_RENDEZVOUS", ":9")
    monkeypatch.setattr(agent_module, "read_address", asked)
    assert run_agent([str(tmp_path / "store"), KEY], stop, "tests.fakes.stages") == 143


def test_a_termination_message_fits_and_keeps_the_end_of_the_traceback():
    record = {"message": "größe" * 1000, "traceback": "first line\n" * 1000 + "ZeroDivisionError", "rank": 1}
    short = shortened(record)
    assert len(short) <= LIMIT_BYTES
    said = json.loads(short)
    assert (said["traceback"], said["rank"]) == ("", 1)
    assert said["message"].startswith("größe")
    said = json.loads(shortened({**record, "message": "small"}))
    assert said["message"] == "small"
    assert said["traceback"].endswith("first line\nZeroDivisionError")
    assert len(said["traceback"]) > LIMIT_BYTES // 2
