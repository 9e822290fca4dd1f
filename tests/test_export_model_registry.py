"""The candidate of a cycle in Kubeflow's Model Registry: a fake that keeps to its OpenAPI and to recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from hqclip import cli
from hqclip.cycle import model_registry_api
from hqclip.records import Sample
from tests import promoting
from tests.fakes.faulty import Fault
from tests.fakes.model_registry import API, ARTIFACTS, MODELS, VERSIONS, FakeModelRegistry

RECORDING = Path(__file__).parent / "model_registry/recording.json"
BUSY = 503, {"code": "Service Unavailable", "message": "later"}


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a closed cycle, whose winner waits for a person."""
    return promoting.make_waiting(tmp_path_factory.mktemp("export"), draw_samples(12))


@pytest.fixture
def store(waiting: str, tmp_path: Path) -> str:
    return promoting.copy_of(waiting, tmp_path / "store")


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeModelRegistry]:
    """The server, named in the environment; every fault a test scripts must have happened by its end."""
    monkeypatch.setattr(model_registry_api, "FIRST_S", 0.001)
    with FakeModelRegistry() as fake:
        monkeypatch.setenv("HQCLIP_MODEL_REGISTRY", fake.url)
        yield fake
        fake.assert_all_faults_fired()


def export(store: str, *more: str) -> int:
    return cli.main(["export", "model-registry", "--store", store, "--cycle", "1", *more])


def values(about: dict[str, Any]) -> dict[str, Any]:
    """Custom properties as plain values."""
    kinds = {
        "MetadataStringValue": "string_value",
        "MetadataIntValue": "int_value",
        "MetadataDoubleValue": "double_value",
    }
    return {name: value[kinds[value["metadataType"]]] for name, value in about["customProperties"].items()}


def test_a_candidate_is_a_version_with_scores_and_origin_and_an_artifact_in_the_store(
    store: str, registry: FakeModelRegistry, capsys: pytest.CaptureFixture[str]
):
    assert export(store) == 0
    said = json.loads(capsys.readouterr().out)
    (model,), (version,), (artifact,) = (registry.all(kind) for kind in (MODELS, VERSIONS, ARTIFACTS))
    assert (model["name"], version["name"], version["registeredModelId"]) == ("hqclip", "000001-hqclip", model["id"])
    assert (said["registered_model"], said["version"], said["artifact"]) == (model["id"], version["id"], artifact["id"])
    record = json.loads((Path(store) / "cycles/000001.json").read_text())
    digest = next(run["model_digest"] for run in record["runs"] if run["name"] == "hqclip")
    told = values(version)
    assert (told["cycle"], told["verdict"], told["evaluate/average"]) == ("1", "waits for approval", 0.6)
    assert (told["dataset"], told["model_digest"]) == (record["dataset"].split("/")[1], digest)
    assert Path(artifact["uri"].removeprefix("file://")) == Path(store) / record["candidate"]
    assert (artifact["modelFormatName"], values(artifact)) == ("open_clip", {"digest": digest})


def test_a_model_that_was_altered_is_not_told_of_and_one_that_is_there_already_is_not_read(
    store: str, registry: FakeModelRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert export(store) == 0
    (weights,) = Path(store).glob("runs/000001-hqclip/model/*.safetensors")
    weights.write_bytes(b"other weights")
    assert export(store) == 0, "the verdict on an old version may still change"
    assert export(promoting.copy_of(store, tmp_path / "other"), "--registered-model", "another") == 65
    assert "is not what was trained" in capsys.readouterr().err
    assert len(registry.all(VERSIONS)) == 1


def test_the_champion_is_named_once_a_person_has_decided_and_no_second_version_is_made(
    store: str, registry: FakeModelRegistry
):
    assert export(store) == 0
    assert registry.all(MODELS)[0]["customProperties"] == {}
    assert cli.main(["approve", "--store", store, "--cycle", "1", "--by", "ada"]) == 0
    assert export(store) == 0
    (model,), (version,) = registry.all(MODELS), registry.all(VERSIONS)
    assert values(model) == {"champion": "000001-hqclip"}
    assert values(version)["verdict"] == "promoted" and "approved by ada" in values(version)["reason"]
    registry.requests.clear()
    assert export(store) == 0
    assert {request.method for request in registry.requests} == {"GET"}
    assert [len(registry.all(kind)) for kind in (MODELS, VERSIONS, ARTIFACTS)] == [1, 1, 1]


@pytest.mark.parametrize("path", [MODELS, VERSIONS, ARTIFACTS.removeprefix("model_")])
def test_a_lost_answer_and_a_busy_service_make_nothing_twice(store: str, registry: FakeModelRegistry, path: str):
    registry.commit_then_drop("POST", f"{path}$")
    registry.expect(Fault("fail", "POST", f"{path}$", answer=BUSY))
    registry.drop("GET", "name=", times=2)
    assert export(store) == 0
    assert [len(registry.all(kind)) for kind in (MODELS, VERSIONS, ARTIFACTS)] == [1, 1, 1]


def test_a_version_of_another_store_is_not_taken_for_ours(
    store: str, registry: FakeModelRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert export(store) == 0
    other = promoting.copy_of(store, tmp_path / "other")
    assert export(other) == 73
    assert "give this store another --registered-model" in capsys.readouterr().err
    assert export(other, "--registered-model", "another") == 0
    assert len(registry.all(VERSIONS)) == 2


@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ((401, {"code": "Unauthorized", "message": "who"}), 77, "wants a login: set HQCLIP_MODEL_REGISTRY_TOKEN"),
        ((302, "", {"Location": "http://127.0.0.1:9/dex"}), 77, "wants a login"),
        ((400, {"code": "Bad Request", "message": "no such thing"}), 64, "refused it: no such thing"),
        ((404, "404 page not found"), 64, "does not know /api/model_registry/v1alpha3"),
        ((200, "<html>"), 65, "give the address of its REST API"),
        ((200, "[" * 100_000), 65, "give the address of its REST API"),
        ((200, {"items": [], "size": 0}), 65, "answered without id and name, .*give the address of its REST API"),
        ((200, {"id": 7, "name": "hqclip"}), 65, "answered without id, "),
        ((200, {"id": "7", "name": "hqclip", "customProperties": []}), 65, "answered without customProperties"),
        ((500, {"code": "x", "message": ["no"]}), 69, "gave no answer"),
    ],
)
def test_what_the_service_refuses_is_said_with_what_helps(
    store: str,
    registry: FakeModelRegistry,
    capsys: pytest.CaptureFixture[str],
    answer: Any,
    code: int,
    said: str,
):
    times = model_registry_api.TRIES if answer[0] >= 500 else 1
    registry.expect(Fault("fail", "GET", "registered_model", answer=answer, times=times))
    assert export(store) == code
    assert re.search(said, capsys.readouterr().err)


def test_a_service_that_never_answers_is_unavailable(
    store: str, registry: FakeModelRegistry, capsys: pytest.CaptureFixture[str]
):
    registry.expect(Fault("fail", "GET", "registered_model", answer=BUSY, times=model_registry_api.TRIES))
    assert export(store) == 69
    assert "gave no answer (503 later); run again" in capsys.readouterr().err
    assert export(store, "--server", "http://127.0.0.1:9") == 69
    assert "gave no answer" in capsys.readouterr().err


def test_a_token_goes_to_the_server_and_into_no_message(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    with FakeModelRegistry(token="a-secret-token") as fake:
        monkeypatch.setenv("HQCLIP_MODEL_REGISTRY", f"{fake.url}{API}/")
        assert export(store) == 77
        monkeypatch.setenv("HQCLIP_MODEL_REGISTRY_TOKEN", "a-secret-token")
        assert export(store) == 0
        refused = 400, {"code": "Bad Request", "message": "Bearer a-secret-token is odd"}
        fake.expect(Fault("fail", "GET", "registered_model", answer=refused))
        assert export(store) == 64
    assert "a-secret-token" not in capsys.readouterr().err


def test_a_token_goes_over_no_network_in_clear_unless_told(
    store: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(model_registry_api, "FIRST_S", 0.001)
    monkeypatch.setattr(model_registry_api, "LONGEST_S", 0.001)
    monkeypatch.setenv("HQCLIP_MODEL_REGISTRY_TOKEN", "a-secret-token")
    far = "--server", "http://nobody.invalid:8080"
    assert export(store, *far) == 64
    said = capsys.readouterr().err
    assert "HQCLIP_MODEL_REGISTRY_TOKEN would go to nobody.invalid in clear" in said and "a-secret" not in said
    monkeypatch.setenv("HQCLIP_PLAIN_HTTP", "nobody.invalid")
    assert export(store, *far) == 69, "it is asked now"
    monkeypatch.delenv("HQCLIP_PLAIN_HTTP")
    monkeypatch.delenv("HQCLIP_MODEL_REGISTRY_TOKEN")
    assert export(store, *far) == 69, "without a token there is nothing to keep"


def test_an_address_is_wanted(store: str, capsys: pytest.CaptureFixture[str]):
    assert export(store) == 64
    assert "give --server" in capsys.readouterr().err
    assert export(store, "--server", "model-registry:8080") == 64
    assert "give http://host:port" in capsys.readouterr().err
    assert export(store, "--server", "https://me:a-password@model-registry") == 64
    said = capsys.readouterr().err
    assert "https://model-registry has a login in it" in said and "a-password" not in said


def test_the_fake_answers_as_the_service_did():
    ids: dict[str, str] = {}
    with FakeModelRegistry() as fake:
        for step in json.loads(RECORDING.read_text()):
            given = json.dumps({name: step[name] for name in ("path", "body")})
            for name, value in ids.items():
                given = given.replace(name, value)
            request = json.loads(given)
            status, answer = ask(f"{fake.url}{API}{request['path']}", step["method"], request["body"])
            if "id" in step:
                ids[step["id"]] = answer["id"]
            assert (status, essence(answer)) == (step["status"], essence(step["answer"])), step


def ask(url: str, method: str, body: Any) -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, {"Content-Type": "application/json"}, method=method)) as answer:
            return answer.status, json.loads(answer.read())
    except HTTPError as error:
        said = error.read().decode()
        return error.code, json.loads(said) if said.startswith("{") else said


def essence(answer: Any) -> Any:
    """All but what is another one each time: numbers, times, and how a refusal is worded."""
    if isinstance(answer, list):
        return [essence(item) for item in answer]
    if not isinstance(answer, dict):
        return answer
    return {
        name: essence(value)
        for name, value in answer.items()
        if not name.endswith(("SinceEpoch", "message")) and name not in ("id", "registeredModelId")
    }
