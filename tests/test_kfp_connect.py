"""Where Kubeflow is and who asks: flags first, patience where it is safe, and refusals that say what to do."""

from __future__ import annotations

import argparse
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import (
    AccessError,
    ConfigError,
    ConflictError,
    DataError,
    MissingSoftwareError,
    NotFoundError,
    UnavailableError,
)
from pipelines.client import connect as connect_module
from pipelines.client import patience
from pipelines.client.connect import pages
from pipelines.client.patience import UnheardError, created
from pipelines.client.runs import ensure_experiment
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_api import Answer
from tests.fakes.kubeflow_client import connected, look_at_once

PAGE = "<html><head><title>%s</title></head><body>%s</body></html>"


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    look_at_once(monkeypatch)
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def fake() -> Iterator[FakeKubeflow]:
    with FakeKubeflow() as fake:
        yield fake


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def seen(fake: FakeKubeflow) -> str:
    """With what the last request wanted to be let in."""
    headers = fake.requests[-1].headers
    return headers.get("authorization", headers.get("cookie", ""))


# where


def test_without_a_host_the_ways_to_say_it_are_named(fake: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="HQCLIP_KFP_HOST.*--port-forward"):
        connected(fake, "--host", "")


def test_the_host_may_be_said_by_a_variable_or_by_that_of_kfp(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", fake.url)
    connected(fake, "--host", "")
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HQCLIP_KFP_HOST", f"{fake.url}/#/pipelines")
    assert connected(fake, "--host", "").client._run_api.api_client.configuration.host == fake.url
    assert len(fake.requests) == 2


def test_the_ui_may_be_elsewhere(fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connected(fake).link("runs", "r") == "", "the host of the API alone has no pages"
    monkeypatch.setenv("HQCLIP_KFP_UI", "https://kubeflow.example/pipeline/")
    link = connected(fake).link("pipelines", "p", "v")
    assert link == "https://kubeflow.example/pipeline/#/pipelines/details/p/version/v"
    flag = connected(fake, "--ui", "http://localhost:8080/#/pipelines")
    assert flag.link("runs", "r") == "http://localhost:8080/#/runs/details/r"


def test_behind_a_dashboard_pages_are_where_the_api_is() -> None:
    given = argparse.Namespace(ui=None)
    assert connect_module._ui(given, "https://kubeflow.example/pipeline") == "https://kubeflow.example/pipeline"


def test_a_command_to_paste_repeats_the_flags_it_needs(fake: FakeKubeflow, tmp_path: Path) -> None:
    token = written(tmp_path / "my token", "t")
    command = connected(fake, "--token-file", token).command("logs", "r", "--task", "train-lr 1")
    where = ["--host", fake.url, "--token-file", str(token)]
    assert shlex.split(command)[3:] == ["logs", "r", "--task", "train-lr 1", *where]


def test_a_host_that_is_no_url_is_refused_before_anything_is_asked(fake: FakeKubeflow) -> None:
    with pytest.raises(ConfigError, match="'kubeflow.example'; give a URL, e.g. https://kubeflow.example"):
        connected(fake, "--host", "kubeflow.example")


def test_a_host_that_nobody_answers_at_is_named(fake: FakeKubeflow) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"http://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UnavailableError, match=f"{host} cannot be reached.*--host"):
            connected(fake, "--host", host, "--patience-s", 0.3)


def test_a_certificate_nobody_knows_is_not_tried_again_and_again(fake: FakeKubeflow) -> None:
    with pytest.raises(UnavailableError, match=r"SSL.*given with --ca-file"):
        connected(fake, "--host", fake.url.replace("http:", "https:"), "--patience-s", 600)


def test_a_host_that_is_something_else_is_told_apart(fake: FakeKubeflow) -> None:
    with pytest.raises(UnavailableError, match=r"not Kubeflow Pipelines' API.*ends in /pipeline"):
        connected(fake, "--host", f"{fake.url}/dashboard")
    fake.say("GET", "/healthz", Answer(PAGE % ("Welcome", "nginx"), headers={"Content-Type": "text/html"}))
    with pytest.raises(UnavailableError, match="a web page answered"):
        connected(fake)
    fake.say("GET", "/healthz", Answer("", 301, {"Location": "https://elsewhere.example/"}))
    with pytest.raises(UnavailableError, match="redirects to https://elsewhere.example/"):
        connected(fake)


@pytest.mark.parametrize(
    "answer",
    [
        "null",
        "5",
        "hello",
        "[" * 100_000,
        {"pipelines": [None]},
        {"pipelines": [{"pipeline_id": "p", "created_at": "never"}]},
    ],
)
def test_an_answer_that_is_none_of_the_api_is_told(fake: FakeKubeflow, answer: Any) -> None:
    kubeflow = connected(fake)
    fake.say("GET", "/pipelines", Answer(answer, headers={"Content-Type": "application/json"}))
    with pytest.raises(DataError, match="an answer that is none of its API v2beta1 .*Check --host"):
        list(pages(kubeflow.client.list_pipelines, "pipelines"))


def test_a_host_that_a_flag_names_is_asked_though_a_variable_wants_a_port_forward(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # without kubectl
    monkeypatch.setenv("HQCLIP_KFP_PORT_FORWARD", "elsewhere")
    assert connected(fake).kubernetes_namespace == "kubeflow"
    monkeypatch.setenv("HQCLIP_KFP_HOST", fake.url)
    with pytest.raises(ConfigError, match="HQCLIP_KFP_HOST and HQCLIP_KFP_PORT_FORWARD are two ways to Kubeflow"):
        connected(fake, "--host", "")
    with pytest.raises(ConfigError, match="--host and --port-forward are two ways to Kubeflow; give one"):
        connected(fake, "--port-forward")
    with pytest.raises(MissingSoftwareError, match="wants kubectl"):
        connected(fake, "--host", "", "--port-forward")


def test_kubectl_forwards_a_port_if_asked_to(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    port = fake.url.rpartition(":")[2]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingSoftwareError, match="wants kubectl"):
        connected(fake, "--host", "", "--port-forward")
    script = f"#!/bin/sh\necho 'Forwarding from 127.0.0.1:{port} -> 8888'\necho \"$@\" >{tmp_path}/words\n"
    written(tmp_path / "kubectl", script).chmod(0o755)
    kubeflow = connected(fake, "--host", "", "--port-forward")
    assert kubeflow.kubernetes_namespace == "kubeflow"
    assert (tmp_path / "words").read_text() == "--namespace kubeflow port-forward svc/ml-pipeline :8888\n"
    written(tmp_path / "kubectl", "#!/bin/sh\necho 'services \"ml-pipeline\" not found' >&2\nexit 1\n")
    with pytest.raises(UnavailableError, match='services "ml-pipeline" not found'):
        connected(fake, "--host", "", "--port-forward", "elsewhere")


# who


def test_flags_win_over_variables_and_these_over_the_token_of_the_pod(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    connected(fake)
    assert seen(fake) == ""
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(written(tmp_path / "pod", "of-the-pod\n")))
    connected(fake)
    assert seen(fake) == "Bearer of-the-pod"
    monkeypatch.setenv("HQCLIP_KFP_TOKEN", "of-a-variable")
    connected(fake)
    assert seen(fake) == "Bearer of-a-variable"
    connected(fake, "--cookie-file", written(tmp_path / "cookie", "authservice_session=abc\n"))
    assert seen(fake) == "authservice_session=abc"
    connected(fake, "--token-file", written(tmp_path / "token", "of-a-flag"))
    assert seen(fake) == "Bearer of-a-flag"


@pytest.mark.parametrize("way", ["TOKEN", "TOKEN_FILE", "COOKIE", "COOKIE_FILE"])
def test_each_way_has_a_variable(fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, way: str) -> None:
    value = written(tmp_path / "secret", "s=1") if way.endswith("FILE") else "s=1"
    monkeypatch.setenv(f"HQCLIP_KFP_{way}", str(value))
    connected(fake)
    assert seen(fake).endswith("s=1")
    assert seen(fake).startswith("Bearer ") == way.startswith("TOKEN")


def test_a_token_file_is_read_again_for_each_request(fake: FakeKubeflow, tmp_path: Path) -> None:
    path = written(tmp_path / "token", "first")
    kubeflow = connected(fake, "--token-file", path)
    written(path, "second")
    kubeflow.client.list_runs()
    assert seen(fake) == "Bearer second"


def test_two_ways_to_log_in_are_one_too_many(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HQCLIP_KFP_TOKEN", "t")
    monkeypatch.setenv("HQCLIP_KFP_COOKIE", "c")
    with pytest.raises(ConfigError, match="HQCLIP_KFP_TOKEN and HQCLIP_KFP_COOKIE are two ways"):
        connected(fake)
    with pytest.raises(NotFoundError, match="--token-file .*there is no such file"):
        connected(fake, "--token-file", tmp_path / "nothing")


def test_iap_without_google_credentials_says_what_is_missing(
    fake: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "nothing.json"))
    with pytest.raises(AccessError, match="no identity token for IAP client 123.apps"):
        connected(fake, "--iap-client-id", "123.apps.example")
    assert not fake.requests


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Used no login at all: give --token-file, --cookie-file or --iap-client-id"),
        (["--token-file"], r"Used the token of --token-file \(.*secret\): has it expired"),
    ],
)
def test_who_is_not_let_in_is_told_what_was_used(tmp_path: Path, words: list[str], said: str) -> None:
    path = written(tmp_path / "secret", "stale")
    with FakeKubeflow(token="fresh") as fake, pytest.raises(AccessError, match=rf"refuses \(401\).*{said}"):
        connected(fake, *words, *[path for _ in words])


def test_a_login_page_is_recognised(tmp_path: Path) -> None:
    with FakeKubeflow(cookie="authservice_session=good") as fake:
        with pytest.raises(AccessError, match="wants a login.*dex/auth.*--cookie-file"):
            connected(fake)
        with pytest.raises(AccessError, match="Used the cookie of --cookie-file"):
            connected(fake, "--cookie-file", written(tmp_path / "cookie", "authservice_session=old"))
        assert connected(fake, "--cookie-file", written(tmp_path / "cookie", "authservice_session=good"))
        page = PAGE % ("Sign in - Google Accounts", "accounts.google.com")
        fake.say("GET", "/healthz", Answer(page, headers={"Content-Type": "text/html; charset=utf-8"}))
        with pytest.raises(AccessError, match="a login page answered.*behind IAP give --iap-client-id"):
            connected(fake, "--cookie-file", written(tmp_path / "cookie", "authservice_session=good"))


def test_several_users_name_their_namespace() -> None:
    with FakeKubeflow(multi_user=True) as fake:
        with pytest.raises(ConfigError, match="several users: give --namespace"):
            connected(fake)
        kubeflow = connected(fake, "--namespace", "team")
        assert ensure_experiment(kubeflow, "hqclip")
        assert fake.requests[-1].body["namespace"] == "team"
        forbidden = connected(fake, "--namespace", "secret")
        with pytest.raises(AccessError, match=r"refuses \(403\).*contributor.*another --namespace"):
            ensure_experiment(forbidden, "hqclip")


def test_where_there_is_one_user_a_namespace_only_says_where_pods_are(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake, "--namespace", "training")
    assert (kubeflow.namespace, kubeflow.kubernetes_namespace) == ("", "training")
    assert connected(fake).kubernetes_namespace == "kubeflow"


# patience


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_reading_is_tried_again(fake: FakeKubeflow, code: int) -> None:
    kubeflow = connected(fake)
    fake.fail("GET", "/runs", code)
    fake.drop("GET", "/runs")
    assert list(pages(kubeflow.client.list_runs, "runs")) == []
    fake.assert_all_faults_fired()


def test_whoever_waits_for_an_answer_is_told_so(fake: FakeKubeflow, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow = connected(fake)
    fake.fail("GET", "/runs", 503, times=4)
    kubeflow.client.list_runs()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"Kubeflow at {fake.url} does not answer: upstream connect error")


def test_a_server_may_say_when_to_come_again(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake, "--patience-s", 5)
    fake.fail("GET", "/runs", 503, retry_after=60)
    with pytest.raises(UnavailableError, match=f"Kubeflow at {fake.url} gave no answer after retries"):
        kubeflow.client.list_runs()  # a minute is more than there is patience


@pytest.mark.parametrize(
    ("code", "kind"), [(400, ConfigError), (403, AccessError), (404, NotFoundError), (409, ConflictError)]
)
def test_a_refusal_is_not_argued_with(fake: FakeKubeflow, code: int, kind: type[Exception]) -> None:
    kubeflow = connected(fake)
    fake.fail("GET", "/runs/", code, message="the answer is no")
    with pytest.raises(kind, match="the answer is no"):
        kubeflow.client.get_run("abc")
    assert len(fake.asked("GET", "/runs/")) == 1


def test_nothing_is_created_twice_because_an_answer_got_lost(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake)
    fake.commit_then_drop("POST", "/experiments")
    assert [ensure_experiment(kubeflow, "hqclip") for _ in range(2)] == list(fake.experiments) * 2
    fake.drop("POST", "/experiments")
    fake.fail("POST", "/experiments", 503)
    ensure_experiment(kubeflow, "other")
    assert [experiment["display_name"] for experiment in fake.experiments.values()] == ["hqclip", "other"]
    fake.assert_all_faults_fired()


def test_who_was_faster_is_joined(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake)
    slower = connected(fake)
    fake.then("GET", "/experiments", lambda: ensure_experiment_of(fake))
    assert ensure_experiment(slower, "hqclip") == ensure_experiment(kubeflow, "hqclip")
    assert len(fake.experiments) == 1


def ensure_experiment_of(fake: FakeKubeflow) -> None:
    """Somebody else makes the experiment, between a look and an attempt."""
    fake.experiments["theirs"] = {
        "experiment_id": "theirs",
        "display_name": "hqclip",
        "created_at": "2026-01-01T00:00:00Z",
        "storage_state": "AVAILABLE",
    }


def test_an_answer_that_stays_lost_is_a_fault(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake, "--patience-s", 0.3)
    fake.drop("POST", "/experiments", times=3)
    with pytest.raises(UnheardError, match="cannot be reached"):
        ensure_experiment(kubeflow, "hqclip")
    fake.assert_all_faults_fired()


def test_what_was_deleted_unheard_is_deleted(fake: FakeKubeflow) -> None:
    kubeflow = connected(fake)
    identity = ensure_experiment(kubeflow, "hqclip")
    fake.commit_then_drop("DELETE", "/experiments/")
    kubeflow.client.delete_experiment(identity)
    assert not fake.experiments
    with pytest.raises(NotFoundError):
        kubeflow.client.delete_experiment(identity)


def test_what_is_found_after_a_lost_answer_is_taken_for_made() -> None:
    tries: list[Any] = []

    def create() -> str:
        tries.append("create")
        raise UnheardError("silence")

    assert created(create, lambda: "there" if len(tries) == 2 else None) == "there"
    assert len(tries) == 2


def test_what_a_server_makes_after_its_gateway_gave_up_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(patience, "LOOKS_S", (0.0, 1.0, 2.0))
    monkeypatch.setattr(patience.time, "sleep", pauses.append)

    def create() -> str:
        if pauses:
            raise AssertionError("it would be there twice")
        raise UnheardError("504 upstream request timeout")

    assert created(create, lambda: "there" if len(pauses) == 3 else None) == "there"
    assert pauses == [0.0, 1.0, 2.0]


def test_a_login_that_cannot_be_one_is_refused_without_showing_it(
    fake: FakeKubeflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "token"
    empty.write_text("\n")
    with pytest.raises(ConfigError, match="the file is empty"):
        connected(fake, "--token-file", empty)
    monkeypatch.setenv("HQCLIP_KFP_TOKEN", "secret\nword")
    with pytest.raises(ConfigError, match="HQCLIP_KFP_TOKEN has more than one line") as refusal:
        connected(fake)
    assert "secret" not in str(refusal.value)
