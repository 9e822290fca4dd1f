"""A stage as processes of this machine: the whole path from the command line to ranks, and back when things break."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import TrainConfig
from hqclip.launch.attempts import read_attempts
from hqclip.records import Sample
from hqclip.store import open_store
from tests.training import tiny_run

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> TrainConfig:
    return tiny_run(tmp_path_factory.mktemp("local"), draw_samples(24))


@pytest.fixture(autouse=True)
def nothing_left(tiny: TrainConfig) -> Iterator[None]:
    """No test leaves a process behind that works on its store."""
    yield
    deadline = time.monotonic() + 120
    while processes(tiny.store):
        assert time.monotonic() < deadline, f"left behind: {processes(tiny.store)}"
        time.sleep(0.1)


def command(config: TrainConfig, *more: str) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_mapping().items()]
    launch = ["launch", "run", "train", "--scheduler", "local", "--nodes", "1", "--nproc", "2", "--retries", "1"]
    return [sys.executable, "-m", "hqclip.cli", *launch, *flags, *more]


def start(config: TrainConfig, *more: str, **env: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(config, *more), cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=environment(**env)
    )


def run(config: TrainConfig, *more: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, *more), cwd=ROOT, capture_output=True, text=True, env=environment(**env), timeout=600
    )


def environment(**env: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **env}


def processes(store: str, module: str = "hqclip.agent") -> list[int]:
    """Agents and ranks that work on this store."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue  # it has just ended
        if store in words and any(word.startswith(module) for word in words):
            found.append(int(path.parent.name))
    return found


def wait_for(holds: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def left_in(folder: Path) -> list[str]:
    """What lies there beside the locks of jobs and the cache of torch."""
    return [
        path.name for path in folder.iterdir() if path.suffix != ".lock" and not path.name.startswith("torchinductor_")
    ]


def checkpoints(config: TrainConfig) -> list[str]:
    keys = open_store(config.store).list(f"runs/{config.run}/checkpoints/")
    return [key for key in keys if key.endswith("receipt.json")]


def long(tiny: TrainConfig, run: str) -> TrainConfig:
    """A run that takes long enough to be disturbed."""
    return replace(tiny, run=run, samples_seen=8 * 150, checkpoint_every=10)


def test_two_ranks_train_and_the_result_says_how_it_was_launched(tiny: TrainConfig) -> None:
    done = run(tiny)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["steps"], result["already_done"]) == (6, False)
    launched = result["launch"]
    assert (launched["scheduler"], launched["attempts"], launched["restarts"]) == ("local", 1, 0)
    assert launched["node_hours"] > 0 and (launched["nodes"], launched["gpus"]) == (1, 0)
    assert "train base: 6 of 6 steps" in done.stderr
    store = open_store(tiny.store)
    (log,) = store.list(f"launch/{launched['key']}/logs/")
    assert b"train base: 6 of 6 steps" in store.read(log)
    again = json.loads(run(tiny).stdout)
    assert again["already_done"] and again["model_digest"] == result["model_digest"]
    assert again["launch"]["key"] == f"{launched['job']}/2"


def test_a_fault_of_the_stage_is_told_once_with_its_exit_code(tiny: TrainConfig) -> None:
    done = run(replace(tiny, run="lost", dataset="datasets/0000000000000000/dataset.json"))
    assert done.returncode == 66
    why, where = done.stderr.strip().splitlines()[-2:]
    assert re.search(r"rank [01] on node 0 ended with exit code 66 in attempt 1 \(0 restarts\): .*/dataset.json", why)
    assert where.startswith("what it said is in ")
    (name,) = {key.split("/")[1] for key in open_store(tiny.store).list("launch/hqclip-train-lost")}
    (attempt,) = read_attempts(open_store(tiny.store), f"{name}/1")
    assert attempt.exit_status is not None and attempt.exit_status.exit_code == 66


def test_sigterm_ends_with_a_checkpoint_and_the_same_command_goes_on(tiny: TrainConfig) -> None:
    config = long(tiny, "stopped")
    with start(config) as launcher:
        wait_for(lambda: checkpoints(config))
        launcher.send_signal(signal.SIGTERM)
        _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 143
    assert "stopped, and hqclip-train-stopped-" in said
    done = run(config)
    assert done.returncode == 0, done.stderr
    assert "stopped continues at step" in done.stderr
    assert json.loads(done.stdout)["steps"] == 150


def test_a_limit_of_the_time_ends_it(tiny: TrainConfig) -> None:
    config = replace(long(tiny, "limited"), samples_seen=8 * 100_000)
    done = run(config, "--running-timeout-s", "5")
    assert done.returncode == 69
    assert re.search(r"has run for \d+ s, which is running_timeout_s", done.stderr)


def test_a_rank_that_is_killed_is_started_again_and_goes_on(tiny: TrainConfig) -> None:
    config = long(tiny, "shot")
    with start(config) as launcher:
        wait_for(lambda: checkpoints(config))
        os.kill(max(processes(tiny.store, "hqclip.agent.rank")), signal.SIGKILL)
        out, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    launched = json.loads(out)["launch"]
    assert (launched["attempts"], launched["restarts"]) == (2, 1)
    first, _ = read_attempts(open_store(tiny.store), launched["key"])
    assert first.exit_status is not None and first.exit_status.exit_code == 137
    assert "shot continues at step" in said


def test_when_the_launcher_is_killed_its_processes_end_and_the_next_one_goes_on(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    config, temporary = long(tiny, "orphaned"), {"TMPDIR": str(tmp_path)}
    with start(config, **temporary) as launcher:
        wait_for(lambda: checkpoints(config))
        second = run(config, **temporary)
        assert second.returncode == 73
        assert "is run by another launcher on this machine" in second.stderr
        launcher.kill()
    wait_for(lambda: not processes(tiny.store))
    assert left_in(tmp_path)
    done = run(config, **temporary)
    assert done.returncode == 0, done.stderr
    assert "orphaned continues at step" in done.stderr
    assert not left_in(tmp_path)


def test_what_an_agent_that_is_killed_leaves_is_removed_by_the_next_one(tiny: TrainConfig, tmp_path: Path) -> None:
    config, temporary = long(tiny, "agentless"), {"TMPDIR": str(tmp_path)}
    with start(config, **temporary) as launcher:
        wait_for(lambda: checkpoints(config))
        os.kill(min(processes(tiny.store)), signal.SIGKILL)
        _, said = launcher.communicate(timeout=600)
    assert launcher.returncode == 0, said
    assert not left_in(tmp_path)
