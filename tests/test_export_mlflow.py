"""The training runs of a cycle as runs of MLflow: a real store of MLflow's own, in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from tests.cycle import Cycle

mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a closed cycle of one training run."""
    folder = tmp_path_factory.mktemp("export")
    world = make_world(DemoWorldConfig(store=str(folder / "world"), images=40, scenes=8))
    Cycle(str(folder / "store"), world, folder / "results").run("hqclip", cycle=1)
    return folder / "store"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return (tmp_path / "mlruns").as_uri()


def export(store: Path, server: str, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    assert cli.main(["export", "mlflow", "--store", str(store), "--tracking-uri", server, *more]) == 0
    return dict(json.loads(capsys.readouterr().out))


def test_a_run_has_settings_curves_scores_files_and_where_it_comes_from(
    store: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (name,) = export(store, server, capsys, "--cycle", "1")["runs"].values()
    client = mlflow.tracking.MlflowClient(tracking_uri=server)
    run = client.get_run(name)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "000001-hqclip")
    settings = json.loads((store / "runs/000001-hqclip/config.json").read_text())
    assert run.data.params == {key: str(value) for key, value in settings.items()}
    lines = [json.loads(line) for line in (store / "runs/000001-hqclip/metrics.jsonl").read_text().splitlines()]
    history = client.get_metric_history(name, "train/loss")
    assert [(point.step, point.value) for point in history] == [(line["step"], line["loss"]) for line in lines]
    (path,) = (path for path in store.glob("evaluations/*/*.json") if path.name.count(".") == 1)
    judged = json.loads(path.read_text())
    assert run.data.metrics["evaluate/average"] == judged["average"]
    for score in judged["benchmarks"]:
        assert run.data.metrics[f"evaluate/{score['name']}/main"] == score["metrics"]["main"]
    record = json.loads((store / "cycles/000001.json").read_text())
    assert run.data.tags["hqclip.verdict"] == record["verdict"]
    assert run.data.tags["hqclip.dataset"] == record["dataset"].split("/")[1]
    assert run.data.tags["hqclip.lvlm"] == "demo"
    weights = "model/open_clip_model.safetensors"
    brought = Path(client.download_artifacts(name, weights, str(tmp_path)))
    assert brought.read_bytes() == (store / "runs/000001-hqclip" / weights).read_bytes()


def test_a_second_export_adds_nothing_and_one_that_was_cut_short_is_replaced(
    store: Path, server: str, capsys: pytest.CaptureFixture[str]
):
    first = export(store, server, capsys, "--models", "false")["runs"]
    assert export(store, server, capsys)["runs"] == first
    (name,) = first.values()
    client = mlflow.tracking.MlflowClient(tracking_uri=server)
    client.set_terminated(name, "FAILED")
    (again,) = export(store, server, capsys)["runs"].values()
    assert again != name
    experiment = client.get_experiment_by_name("hqclip").experiment_id
    assert [run.info.run_id for run in client.search_runs([experiment])] == [again]


def test_no_server_is_refused_and_one_that_does_not_answer_is_told(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.main(["export", "mlflow", "--store", str(store)]) == 64
    assert "give --tracking-uri" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli.main(["export", "mlflow", "--store", str(store), "--tracking-uri", "http://127.0.0.1:1"]) == 69
    assert "the same command continues" in capsys.readouterr().err
