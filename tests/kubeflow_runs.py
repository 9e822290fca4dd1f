"""What tests of the verbs for runs share: a Kubeflow, the cluster it is on, and runs that are under way.

A plugin of pytest (see `conftest.py`), so that its fixtures are everywhere; kfp, which is slow to import and not
everywhere, is imported on use only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip import __version__
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubernetes import FakeCluster
from tests.launching import write_kubeconfig

Read = pytest.CaptureFixture[str]
Start = Callable[..., str]
Write = Callable[..., None]
NO_CLUSTER = "no Kubernetes cluster"


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKubeflow]:
    """The one that commands talk to by default."""
    from tests.fakes.kubeflow_client import look_at_once

    look_at_once(monkeypatch)
    with FakeKubeflow() as kubeflow:
        monkeypatch.setenv("HQCLIP_KFP_HOST", kubeflow.url)
        monkeypatch.setenv("HQCLIP_TAG", __version__)  # images of a checkout, which have no digests
        yield kubeflow


@pytest.fixture
def kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """Pods and jobs are in Kubeflow's own namespace; the kubeconfig is for work in another."""
    with FakeCluster(namespace="kubeflow") as kubernetes:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", kubernetes.url)))
        yield kubernetes


@pytest.fixture
def start(kubeflow: FakeKubeflow, tmp_path: Path, capsys: Read) -> Start:
    """`start(plan_launch="gs://...")`: a run that is under way; its id."""
    from pipelines.client import runs
    from tests.fakes.kubeflow_client import call, write_package

    package = write_package(tmp_path)

    def start(name: str = "", experiment: str = "hqclip", **inputs: str) -> str:
        store = str(tmp_path / "store")
        (tmp_path / "store").mkdir(exist_ok=True)
        words = ["--experiment", experiment, "--set", f"store={inputs.pop('store', store)}"]
        words += [word for key, value in inputs.items() for word in ("--set", f"{key}={value}")]
        words += ["--name", name] if name else []
        assert call(runs, package, *words, "-o", "json") == 0
        run_id = str(json.loads(capsys.readouterr().out)["run_id"])
        kubeflow.state(run_id, "RUNNING")
        return run_id

    return start


@pytest.fixture
def write(kubeflow: FakeKubeflow) -> Write:
    """`write(run_id, "train", trial="raw", pod=..., exit_code=65)`: what a task says of itself in the store."""
    from hqclip.store import open_store
    from hqclip.task_records import TaskRecord, write_record

    def write(run_id: str, stage: str, *, exit_code: int | None = 0, **about: Any) -> None:
        store = kubeflow.runs[run_id]["runtime_config"]["parameters"]["store"]
        ended = None if exit_code is None else 120.0
        record = TaskRecord(run=run_id, stage=stage, exit_code=exit_code, **{"started": 100.0, "ended": ended, **about})
        write_record(open_store(store), record)

    return write


def shown(capsys: Read) -> Any:
    return json.loads(capsys.readouterr().out)
