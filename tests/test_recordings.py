"""What a real Kubeflow answered about 19 runs, played to `status`, `explain` and `logs`: a person reads what happened.

`tests/recordings/kubeflow` has the answers, cut to what matters; these runs are older than the records of tasks.
`tests/golden/recordings` has what the verbs print of each, read against
what had happened and mended until it fit.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.__main__ import main
from pipelines.client import status
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import call
from tests.kubeflow_runs import Read

RECORDINGS = sorted((Path(__file__).parent / "recordings" / "kubeflow").glob("*.json"))
WIDTH = 120
COMMAND = re.compile(r"python -m pipelines [^`\n]+")
CAN_FAIL = {"explain": 0, "status": 0, "logs": 66}  # what a verb may end with: there may be no log left


@pytest.fixture
def played(kubeflow: FakeKubeflow, tmp_path: Path, request: Any) -> str:
    """A run as it was recorded; its store is one that nobody wrote records to."""
    recording = json.loads(request.param.read_text(encoding="utf-8"))
    (tmp_path / "store").mkdir()
    recording["run"]["runtime_config"]["parameters"]["store"] = str(tmp_path / "store")
    return kubeflow.play(recording)


def said(capsys: Read, verb: str, *words: str) -> str:
    """Both streams, and the exit code if there is one."""
    code = main([verb, *words])
    read = capsys.readouterr()
    return read.out + read.err + (f"exit code {code}\n" if code else "")


@pytest.mark.parametrize("played", RECORDINGS, indirect=True, ids=lambda path: path.stem)
def test_a_person_reads_what_happened(
    played: str, tmp_path: Path, capsys: Read, request: pytest.FixtureRequest, golden: Callable[[str, str], None]
) -> None:
    told = []
    for command in ("status", "explain", "logs --tail 3"):
        verb, *words = command.split()
        told.append(f"$ {command}\n{said(capsys, verb, played, *words)}")
    golden(f"recordings/{request.node.callspec.id}.txt", "\n".join(told).replace(str(tmp_path / "store"), "STORE"))


@pytest.mark.parametrize("played", RECORDINGS, indirect=True, ids=lambda path: path.stem)
def test_rows_fit_the_terminal_and_every_command_that_is_printed_works(played: str, capsys: Read) -> None:
    shown = "".join(said(capsys, verb, played) for verb in ("status", "explain"))
    assert [line for line in shown.splitlines() if len(line) > WIDTH] == []
    for command in sorted(set(COMMAND.findall(shown))):
        words = shlex.split(command)[3:]
        if words[0] not in ("lint", "doctor"):  # they look at other things; that they are verbs is tested elsewhere
            assert main(words) in (0, CAN_FAIL[words[0]]), command
        capsys.readouterr()


@pytest.mark.parametrize("name", ["refine-launched-succeeded", "sweep-one-point-failed", "nothing-new"])
def test_what_v2beta1_alone_tells_has_the_same_tasks(kubeflow: FakeKubeflow, capsys: Read, name: str) -> None:
    recording = json.loads((RECORDINGS[0].parent / f"{name}.json").read_text(encoding="utf-8"))
    recording["run"]["runtime_config"]["parameters"]["store"] = ""
    run_id = kubeflow.play(recording)
    assert call(status, run_id, "-o", "json") == 0
    with_workflow = json.loads(capsys.readouterr().out)["tasks"]
    kubeflow.serves_v1 = False
    assert call(status, run_id, "-o", "json") == 0
    without = json.loads(capsys.readouterr().out)["tasks"]

    def states(tasks: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return sorted((task["stage"], task["state"]) for task in tasks)

    assert states(without) == states(with_workflow)
