"""Completion: what a shell is told may come next, by the same parsers that read the flags."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import connected, write_package

PROGRAMS = {"hqclip": ("hqclip.cli", 1), "python -m pipelines": ("pipelines", 3)}


def offered(line: str, tmp_path: Path) -> set[str]:
    """As argcomplete's part of the shell asks."""
    program = next(name for name in PROGRAMS if line.startswith(name))
    module, count = PROGRAMS[program]
    answer = tmp_path / "answer"
    told = {"COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE": str(count), "COMP_TYPE": "9"}
    told |= {"_ARGCOMPLETE_STDOUT_FILENAME": str(answer), "_ARGCOMPLETE_IFS": "\n"}
    subprocess.run([sys.executable, "-m", module], env={**os.environ, **told}, check=True, cwd=tmp_path)
    return {word.strip() for word in answer.read_text().splitlines()}


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("hqclip ", {"train", "annotate", "launch", "jobs", "demo"}),
        ("hqclip tr", {"train"}),
        ("hqclip launch ", {"run", "render", "profiles"}),
        ("hqclip launch r", {"run", "render"}),
        ("hqclip launch run ", {"train", "evaluate", "--scheduler"}),
        ("hqclip launch run train --sch", {"--scheduler"}),
        ("hqclip launch run train --samples", {"--samples-seen"}),
        ("hqclip launch run train --scheduler ", {"local", "volcano", "jobset"}),
        ("hqclip annotate ", {"pilot", "compare", "--engine"}),
        ("hqclip annotate pilot --", {"--store", "--dry-run"}),
        ("hqclip download --skip-damaged ", {"true", "false"}),
        ("python -m pipelines ", {"compile", "run", "doctor"}),
        ("python -m pipelines sche", {"schedule"}),
        ("python -m pipelines schedule ", {"apply", "diff", "pause"}),
        ("python -m pipelines run ", {"refine", "sweep"}),
        ("python -m pipelines run refine --preset de", {"demo", "demo-quick"}),
        ("python -m pipelines sweep --output ", {"table", "json", "yaml"}),
    ],
)
def test_what_may_come_next_is_offered(tmp_path: Path, line: str, among: set[str]):
    there = offered(line, tmp_path)
    assert among <= there
    assert all(word.startswith(line.rpartition(" ")[2]) for word in there)


def test_what_cannot_come_any_more_is_not_offered(tmp_path: Path):
    assert not {"pilot", "compare"} & offered("hqclip annotate --store x ", tmp_path)
    assert "--scheduler" not in offered("hqclip train --", tmp_path)
    assert offered("hqclip trian --", tmp_path) <= {"--help"}


def test_a_path_is_completed_where_one_is_wanted(tmp_path: Path):
    (tmp_path / "machines.yaml").touch()
    assert offered("hqclip launch run train --spec mach", tmp_path) == {"machines.yaml"}


def test_the_ids_of_runs_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with FakeKubeflow() as fake:
        monkeypatch.setenv("HQCLIP_KFP_HOST", fake.url)
        client = connected(fake).client
        experiment = client.create_experiment("nightly")
        package = str(write_package(tmp_path))
        for name in ("one", "two"):
            client.run_pipeline(experiment.experiment_id, name, package, {"store": "gs://bucket/store"})
        ids = set(fake.runs)
        for verb in ("logs", "status", "explain", "cancel"):
            assert offered(f"python -m pipelines {verb} ", tmp_path) >= {"latest", *ids}, verb
        one = min(ids)
        assert offered(f"python -m pipelines logs {one[:8]}", tmp_path) == {one}
        assert offered(f"python -m pipelines logs --host {fake.url} ", tmp_path) >= ids
    assert "latest" in offered("python -m pipelines logs ", tmp_path), "nobody answers"
    monkeypatch.delenv("HQCLIP_KFP_HOST")
    monkeypatch.setenv("HQCLIP_KFP_PORT_FORWARD", "kubeflow")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "latest" in offered("python -m pipelines logs ", tmp_path), "no tunnel is opened"


def test_a_real_shell_completes_both_programs():
    """The line that the README gives, in bash."""
    ask = """
        PATH=$1:$PATH
        eval "$(activate-global-python-argcomplete --dest=-)"
        complete_line() {
            COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_TYPE=9
            COMPREPLY=(); _python_argcomplete_global "$1"; echo "${COMPREPLY[@]}"
        }
        complete_line hqclip cur
        complete_line python -m pipelines expl
    """
    done = subprocess.run(
        ["bash", "-c", ask, "bash", str(Path(sys.executable).parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["curate", "explain"], done.stderr
