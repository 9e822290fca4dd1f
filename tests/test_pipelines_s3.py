"""A pipeline whose store, shards and suite are on a server of S3: killed, continued, and read by the commands."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hqclip import cli
from hqclip.config import DemoWorldConfig
from hqclip.cycle.crown import read_champion
from hqclip.demo.world import make_world
from hqclip.errors import NotFoundError
from hqclip.store import open_store
from hqclip.store.s3 import S3Store
from tests.cycle import TINY
from tests.fakes.model_registry import ARTIFACTS, FakeModelRegistry
from tests.fakes.s3 import FaultyLine

ROOT = Path(__file__).parents[1]
COMMANDS = (  # and what they say
    (["lineage"], "cycle 1: promoted"),
    (["lineage", "--format", "openlineage"], '"namespace": "s3://bucket"'),
    (["compare", "--runs", "1,2"], "cycle 2: hqclip"),
    (["gc", "--days", "0"], "nothing was deleted"),
)
# requests of a run, of which 7 a task try the promises of the server
MOST = {"first": 500, "second": 480, "nothing to do": 60}


class Pipelines:
    """`python -m pipelines run refine --local` with everything in a bucket, each time in a process group of its own."""

    def __init__(self, s3: S3Store, line: FaultyLine, folder: Path) -> None:
        self.store = f"{s3.uri}/store"
        self.said = ""
        self._line, self._folder = line, folder
        world = make_world(DemoWorldConfig(store=f"{s3.uri}/world", images=30, scenes=8))
        inputs = {
            "store": self.store,
            "download_shards": world["shards"],
            "evaluate_suite": world["suite"],
            "plan_overrides": json.dumps(TINY),
            "train_trials": "hqclip",
        }
        self._words = [f"--set={name}={value}" for name, value in inputs.items()]

    def run(self, cycle: int, killed_at: str = "") -> list[str]:
        """The requests of a run; `kill -9` for all of its processes at the first request with these words."""
        self._line.requests.clear()
        words = [sys.executable, "-m", "pipelines", "run", "refine", "--local", "--preset", "demo-quick"]
        words += [f"--out={self._folder}", f"--set=plan_cycle={cycle}", *self._words]
        running = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True
        )
        if killed_at:
            self._line.fault("pass", killed_at).then = lambda: os.killpg(running.pid, signal.SIGKILL)
        self.said = running.communicate()[0]
        assert running.returncode == (-signal.SIGKILL if killed_at else 0), self.said
        return list(self._line.requests)


def kinds(requests: list[str]) -> str:
    """How many requests of which kind, for who must find out why there are too many."""
    return str(Counter(f"{line.split()[0]}{' list' if 'list-type' in line else ''}" for line in requests))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four runs, of thirty processes
def test_a_pipeline_on_s3_is_killed_continues_goes_on_and_is_read_by_every_command(
    s3: S3Store, s3_line: FaultyLine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pipelines = Pipelines(s3, s3_line, tmp_path / "out")
    store = open_store(pipelines.store)
    pipelines.run(1, killed_at="PUT checkpoints state.json")
    assert read_champion(store) is None
    again = pipelines.run(1)
    assert not [line for line in again if line.startswith("PUT") and "/annotations/" in line], "they were done"
    first = read_champion(store)
    assert first and first.cycle == 1
    second = pipelines.run(2)
    nothing = pipelines.run(2)
    assert "cycle 2 is done" in pipelines.said
    for name, requests in (("first", again), ("second", second), ("nothing to do", nothing)):
        assert len(requests) <= MOST[name], (name, kinds(requests))
    assert "Traceback" not in pipelines.said and not (tmp_path / "out/world").exists()
    assert s3.broken_promises() == ()
    read_all(pipelines.store, capsys)


def read_all(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Pages, and what each command says that reads a store."""
    for key in (f"cycles/{cycle:06d}.html" for cycle in (1, 2)):
        assert open_store(store).read(key).startswith(b"<!DOCTYPE html>")
    for words, said in COMMANDS:
        assert cli.main([words[0], "--store", store, *words[1:]]) == 0
        assert said in capsys.readouterr().out
    code = cli.main(["reproduce", "--store", store, "--into", f"{store}-again"])
    assert code in (0, NotFoundError.exit_code), "the checkout may have another commit by now"
    assert f"{store}-again" in capsys.readouterr().out
    with FakeModelRegistry() as registry:
        assert cli.main(["export", "model-registry", "--store", store, "--cycle", "1", "--server", registry.url]) == 0
        (artifact,) = registry.all(ARTIFACTS)
    assert artifact["uri"] == f"{store}/runs/000001-hqclip/model"
    assert open_store(artifact["uri"]).exists("open_clip_model.safetensors")
