"""The training runs of a cycle as runs of MLflow, and its candidate as a version there: on a real server."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from hqclip import cli
from hqclip.cycle.mlflow_server import Mlflow
from hqclip.errors import ConfigError
from hqclip.records import Sample
from tests import promoting
from tests.fakes.faulty import Handler, Server
from tests.fakes.s3 import FaultyLine
from tests.mlflow_server import MlflowServer

RUN = "runs/000001-hqclip"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a closed cycle of two training runs, whose winner waits for a person."""
    return promoting.make_waiting(tmp_path_factory.mktemp("export"), draw_samples(12))


@pytest.fixture
def store(waiting: str, tmp_path: Path) -> Path:
    """A copy at a place that MLflow has heard nothing from."""
    return Path(promoting.copy_of(waiting, tmp_path / "store"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("mlflow")) as running:
        yield running


@pytest.fixture
def client(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """A client of the server that the environment names."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    return MlflowClient(tracking_uri=server.url, registry_uri=server.url)


def export(store: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    """What is said, of a model that each store calls by a name of its own."""
    given = ["--store", str(store), "--cycle", "1", "--registered-model", name_of(store), *more]
    assert cli.main(["export", "mlflow", *given]) == 0
    return dict(json.loads(capsys.readouterr().out))


def name_of(store: Path) -> str:
    return store.parent.name


def approve(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["approve", "--store", str(store), "--cycle", "1", "--by", "ada"]) == 0
    capsys.readouterr()


@pytest.mark.slow
def test_a_run_has_settings_curves_scores_files_and_where_it_comes_from(
    store: Path, client: MlflowClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    said = export(store, capsys)
    assert set(said["runs"]) == {"runs/000001-raw", RUN}
    run = client.get_run(said["runs"][RUN])
    assert (run.info.status, run.info.run_name) == ("FINISHED", "000001-hqclip")
    assert run.data.params == {"negative_weight": "0.5"}
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(2, 1.0), (4, 0.5)]
    assert run.data.metrics["evaluate/average"] == run.data.metrics["evaluate/quiz/main"] == 0.6
    record = json.loads((store / "cycles/000001.json").read_text())
    assert run.data.tags["hqclip.verdict"] == "waits for approval"
    assert run.data.tags["hqclip.dataset"] == record["dataset"].split("/")[1]
    raw = client.get_run(said["runs"]["runs/000001-raw"])
    assert raw.data.tags["hqclip.verdict"] == "not the candidate"
    weights = "model/open_clip_model.safetensors"
    brought = Path(client.download_artifacts(run.info.run_id, weights, str(tmp_path)))
    assert brought.read_bytes() == (store / RUN / weights).read_bytes()


@pytest.mark.slow
def test_the_candidate_is_a_version_and_has_the_alias_once_it_is_in_force(
    store: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    said = export(store, capsys)
    (version,) = client.search_model_versions(f"name = '{name_of(store)}'")
    assert (str(version.version), version.run_id) == (said["version"], said["runs"][RUN])
    assert version.source == f"{client.get_run(version.run_id).info.artifact_uri}/model"
    assert client.get_registered_model(name_of(store)).aliases == {}
    approve(store, capsys)
    assert export(store, capsys) == said
    champion = client.get_model_version_by_alias(name_of(store), "champion")
    assert str(champion.version) == said["version"]
    for tags in (champion.tags, client.get_run(champion.run_id).data.tags):
        assert tags["hqclip.verdict"] == "promoted" and "approved by ada" in tags["hqclip.reason"]


@pytest.mark.slow
def test_a_second_export_adds_nothing_and_one_that_was_cut_short_is_replaced(
    store: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    first = export(store, capsys)
    assert export(store, capsys) == first
    assert len(client.search_model_versions(f"name = '{name_of(store)}'")) == 1
    client.set_terminated(first["runs"][RUN], "FAILED")
    capsys.readouterr()
    again = export(store, capsys)
    assert again["runs"][RUN] != first["runs"][RUN]
    assert again["runs"]["runs/000001-raw"] == first["runs"]["runs/000001-raw"]
    experiment = client.get_experiment_by_name("hqclip").experiment_id
    found = client.search_runs([experiment], f"tags.`hqclip.run` = '{store}/{RUN}'")
    assert [run.info.run_id for run in found] == [again["runs"][RUN]]
    assert client.get_model_version(name_of(store), again["version"]).run_id == again["runs"][RUN]


@pytest.mark.slow
@pytest.mark.parametrize("run", ["raw", "hqclip"])
def test_a_model_that_was_altered_is_not_brought(
    store: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str], run: str
):
    (weights,) = store.glob(f"runs/000001-{run}/model/*.safetensors")
    weights.write_bytes(b"other weights")
    assert cli.main(["export", "mlflow", "--store", str(store), "--cycle", "1", "--experiment", name_of(store)]) == 65
    assert "is not what was trained" in capsys.readouterr().err
    experiment = client.get_experiment_by_name(name_of(store))
    assert not [one for one in client.search_runs([experiment.experiment_id]) if run == one.info.run_name[7:]]


def test_without_files_there_is_no_version_that_nobody_could_load(
    store: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    said = export(store, capsys, "--models", "false")
    assert said["version"] == "" and client.list_artifacts(said["runs"][RUN]) == []
    assert client.search_model_versions(f"name = '{name_of(store)}'") == []


@pytest.mark.slow
def test_logins_are_those_of_mlflow_and_refusals_say_what_helps(
    store: Path, server: MlflowServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with FaultyLine(server.url) as line:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", line.url)
        words = ["export", "mlflow", "--store", str(store), "--cycle", "1"]
        for status, code, said in (
            ("401 Unauthorized", 77, "set MLFLOW_TRACKING_TOKEN"),
            ("403 Forbidden", 77, "set MLFLOW_TRACKING_TOKEN"),
            ("503 SlowDown", 69, "the same command continues"),
        ):
            line.fault("refuse", "GET experiments", status)
            assert cli.main(words) == code
            assert said in capsys.readouterr().err
        assert cli.main([*words, "--registered-model", "a/b"]) == 64
        assert "refused it: " in capsys.readouterr().err
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret-token")
        line.logins.clear()
        export(store, capsys)
        assert line.logins == {"Bearer a-secret-token"}
        assert not line.unfired()


def test_no_server_is_refused_and_one_that_does_not_answer_is_told(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    words = ["export", "mlflow", "--store", str(store), "--cycle", "1"]
    assert cli.main(words) == 64
    assert "give --tracking-uri" in capsys.readouterr().err
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert cli.main([*words, "--tracking-uri", "http://127.0.0.1:1"]) == 69
    assert "the same command continues" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("login", "uri", "secret"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "a-secret"}, "http://nobody.invalid:5000", "MLFLOW_TRACKING_TOKEN"),
        (
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "a-secret"},
            "http://nobody.invalid:5000",
            "MLFLOW_TRACKING_PASSWORD",
        ),
        ({}, "http://ada:a-secret@nobody.invalid:5000", "the login in the address"),
        ({"NETRC": "netrc"}, "http://nobody.invalid:5000", "the login of ~/.netrc"),
    ],
)
def test_a_login_goes_over_no_network_in_clear_unless_told(
    store: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    login: dict[str, str],
    uri: str,
    secret: str,
):
    (store.parent / "netrc").write_text("machine nobody.invalid login ada password a-secret\n")
    for name, value in login.items():
        monkeypatch.setenv(name, value if name != "NETRC" else str(store.parent / value))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = ["export", "mlflow", "--store", str(store), "--cycle", "1", "--tracking-uri", uri]
    assert cli.main(words) == 64
    said = capsys.readouterr().err
    assert secret in said and "would go to nobody.invalid in clear" in said and "a-secret" not in said
    monkeypatch.setenv("HQCLIP_PLAIN_HTTP", "nobody.invalid")
    assert cli.main(words) == 69, "it is asked now"
    assert "a-secret" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("artifacts", "refused"),
    [
        ("http://nobody.invalid/files", True),
        ("mlflow-artifacts://nobody.invalid/files", True),
        ("mlflow-artifacts:/1/files", False),
        ("https://files.example/1", False),
        ("s3://bucket/1", False),
    ],
)
def test_files_carry_the_login_to_no_other_place_in_clear(
    monkeypatch: pytest.MonkeyPatch, artifacts: str, refused: bool
):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "a-secret")
    mlflow = Mlflow("http://127.0.0.1:5000")
    with pytest.raises(ConfigError, match="in clear") if refused else contextlib.nullcontext():
        mlflow.check_files(artifacts)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"items": []}, "answered without the id of an experiment"),
        ({"experiment": {"experiment_id": {}}}, "an answer that is none of MLflow"),
        ({"experiment": {"experiment_id": "1"}, "run": {}}, "answered without the id of a run"),
        ({"experiment": {"experiment_id": "1"}, "run": {"info": {"run_id": "r"}}}, "without a place for the files"),
    ],
)
def test_an_answer_that_lacks_what_is_needed_is_said(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, answer: Any, said: str
):
    class Foreign(Handler):
        def do_GET(self) -> None:
            self.received()
            self.send(answer, 200, {})

        do_POST = do_GET

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.chdir(store.parent)
    with Server(lambda _: None, Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = ["export", "mlflow", "--store", str(store), "--cycle", "1"]
        assert cli.main([*words, "--tracking-uri", f"http://127.0.0.1:{server.server_address[1]}"]) == 65
        server.shutdown()
    assert said in capsys.readouterr().err
    assert not (store.parent / "model").exists(), "a run without a place must not be written here"


@pytest.mark.parametrize("address", ["./mlruns", "nothing://known"])
def test_an_address_that_mlflow_does_not_take_is_refused(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, address: str
):
    monkeypatch.chdir(store.parent)
    assert cli.main(["export", "mlflow", "--store", str(store), "--cycle", "1", "--tracking-uri", address]) == 64
    assert f"MLflow at {address} refused it" in capsys.readouterr().err
