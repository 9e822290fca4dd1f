"""A secret crosses no network in clear unless somebody allows it, whoever it is for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import ConfigError, UnavailableError
from hqclip.launch import kube
from hqclip.models import hub as hub_module
from hqclip.models.names import HubName
from hqclip.notify.config import read_environment
from hqclip.plain_http import in_clear, refuse_in_clear
from hqclip.store import s3_client
from hqclip.store.gcs import GcsStore
from pipelines.client import connect as connect_module
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import connected
from tests.launching import write_kubeconfig

FAR = "http://nobody.invalid:8000"  # no such name is ever known


@pytest.fixture
def kubeflow() -> Iterator[FakeKubeflow]:
    with FakeKubeflow() as fake:
        yield fake


# the rule


@pytest.mark.parametrize(
    "url",
    [
        "https://kubeflow.example/pipeline",
        "http://localhost:5000",
        "http://me.localhost",
        "http://127.8.8.8:1",
        "http://[::1]:1",
        "file:///tmp/mlruns",
        "sqlite:///mlflow.db",
    ],
)
def test_tls_and_this_machine_may_have_a_secret(url: str) -> None:
    assert in_clear("TOKEN", url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.7:8000",
        "HTTP://kubeflow.example",
        "http://127.0.0.1.evil.org",
        "http://mlflow.mlflow.svc:5000",
        "http://ml-pipeline.kubeflow:8888",
        "http://[fd00::7]:80",
        "http://[broken",
    ],
)
def test_nobody_else_may_in_clear(url: str) -> None:
    with pytest.raises(
        ConfigError, match="^TOKEN would go to .* in clear: give an https:// address, .*HQCLIP_PLAIN_HTTP="
    ):
        refuse_in_clear("TOKEN", url)


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ("mlflow.mlflow.svc", "http://mlflow.mlflow.svc:5000"),
        ("mlflow.mlflow.svc:5000, 10.0.0.7", "http://mlflow.mlflow.svc:5000"),
        ("http://10.0.0.7:1/", "http://10.0.0.7:8000"),
        ("*.svc,*.svc.cluster.local", "http://MLflow.mlflow.svc.cluster.local.:5000"),
        ("[fd00::7]", "http://[fd00::7]:80"),
    ],
)
def test_a_host_that_the_environment_names_may_and_no_other(
    monkeypatch: pytest.MonkeyPatch, named: str, url: str
) -> None:
    assert in_clear("TOKEN", url)
    monkeypatch.setenv("HQCLIP_PLAIN_HTTP", named)
    assert in_clear("TOKEN", url) == ""
    assert in_clear("TOKEN", "http://elsewhere.example")


def test_the_refusal_names_what_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://mlflow.mlflow.svc:5000", "http://[fd00::7]:80"):
        word = next(word for word in in_clear("TOKEN", url).split() if word.startswith("HQCLIP_PLAIN_HTTP="))
        monkeypatch.setenv(*word.split("="))
        assert in_clear("TOKEN", url) == ""


@pytest.mark.parametrize(
    "name", ["ml-pipeline.kubeflow.svc.cluster.local", "ml-pipeline.kubeflow.svc", "ml-pipeline.kubeflow"]
)
def test_from_a_pod_the_services_of_kubeflow_may_as_they_always_could(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert in_clear("TOKEN", f"http://{name}:8888")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert in_clear("TOKEN", f"http://{name}:8888") == ""
    assert in_clear("TOKEN", f"http://{name}.evil.org:8888")
    assert in_clear("TOKEN", "http://kubeflow:8888") and in_clear("TOKEN", "http://a.kubeflow.org")


def test_what_goes_through_a_proxy_leaves_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    assert "through the proxy of HTTP_PROXY in clear: name localhost in NO_PROXY" in in_clear(
        "TOKEN", "http://localhost:1"
    )
    assert in_clear("TOKEN", "http://localhost:1", proxies=False) == ""
    monkeypatch.setenv("NO_PROXY", "localhost,.svc")
    assert in_clear("TOKEN", "http://localhost:1") == ""


# who asks it


@pytest.mark.parametrize(
    ("given", "secret"),
    [
        ({"WEBHOOK_URL": f"{FAR}/hook", "WEBHOOK_TOKEN": "a-secret"}, "HQCLIP_NOTIFY_WEBHOOK_TOKEN"),
        ({"SLACK_URL": f"{FAR}/a-secret"}, "HQCLIP_NOTIFY_SLACK_URL"),
    ],
)
def test_a_receiver_of_messages(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], secret: str) -> None:
    for name, value in given.items():
        monkeypatch.setenv(f"HQCLIP_NOTIFY_{name}", value)
    with pytest.raises(ConfigError, match=f"^{secret} would go to nobody.invalid in clear") as caught:
        read_environment()
    assert "a-secret" not in str(caught.value)
    monkeypatch.setenv("HQCLIP_PLAIN_HTTP", "nobody.invalid")
    assert read_environment().names


def test_a_receiver_without_a_token_may_be_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", f"{FAR}/hook")
    assert read_environment().names == ["webhook"]


@pytest.mark.parametrize("name", ["HQCLIP_KFP_TOKEN", "HQCLIP_KFP_COOKIE", "HQCLIP_KFP_IAP_CLIENT_ID"])
def test_kubeflow(kubeflow: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "a-secret")
    with pytest.raises(ConfigError, match=f"{name} would go to nobody.invalid in clear") as caught:
        connected(kubeflow, "--host", FAR)
    assert "a-secret" not in str(caught.value)
    if "IAP" not in name:
        monkeypatch.setenv("HQCLIP_PLAIN_HTTP", "nobody.invalid")
        with pytest.raises(UnavailableError, match="cannot be reached"):
            connected(kubeflow, "--host", FAR, "--patience-s", 0.1)
        connected(kubeflow)  # on this machine
    monkeypatch.delenv(name)
    with pytest.raises(UnavailableError, match="cannot be reached"):
        connected(kubeflow, "--host", FAR, "--patience-s", 0.1)


def test_kubeflow_with_the_token_of_a_pod(
    kubeflow: FakeKubeflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-secret")
    monkeypatch.setenv("KF_PIPELINES_SA_TOKEN_PATH", str(tmp_path / "token"))
    with pytest.raises(
        ConfigError, match="the service account token of this pod .* would go to nobody.invalid in clear"
    ):
        connected(kubeflow, "--host", FAR)
    (tmp_path / "namespace").write_text("vision")
    monkeypatch.setattr(connect_module, "_POD_NAMESPACE", tmp_path / "namespace")
    with pytest.raises(UnavailableError, match="ml-pipeline.kubeflow.svc.cluster.local:8888 cannot be reached"):
        connected(kubeflow, "--host", "", "--patience-s", 0.1)


def test_the_kubernetes_api_is_asked_without_a_login_as_kubectl_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sent(server: str) -> Any:
        config = write_kubeconfig(tmp_path / "config", server, token="a-secret")
        monkeypatch.setenv("KUBECONFIG", str(config))
        return kube.connect()._api.configuration.auth_settings()

    assert sent(FAR) == {}
    said = capsys.readouterr().err
    assert "the login of the kubeconfig would go to nobody.invalid in clear" in said and "as kubectl does" in said
    for server in ("http://127.0.0.1:8001", FAR.replace("http:", "https:")):
        assert sent(server)["BearerToken"]["value"] == "Bearer a-secret"
    monkeypatch.setenv("HQCLIP_PLAIN_HTTP", "nobody.invalid")
    assert sent(FAR)["BearerToken"]["value"] == "Bearer a-secret"
    assert capsys.readouterr().err == ""


def test_the_hub_where_a_mirror_is_named(monkeypatch: pytest.MonkeyPatch, hub: Any) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", FAR)
    monkeypatch.setenv("HF_TOKEN", "hf_a-secret")
    with pytest.raises(ConfigError, match=r"HF_TOKEN .*would go to nobody.invalid in clear"):
        hub_module.commit_of(HubName("org/name", "main"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UnavailableError):
        hub_module.commit_of(HubName("org/name", "main"))


def test_s3_gets_signatures_and_no_web_identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-secret")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", FAR)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/hqclip")
    with pytest.raises(ConfigError, match="the web identity token .* would go to nobody.invalid in clear"):
        s3_client.client()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "https://sts.example")
    assert s3_client.client()
    monkeypatch.delenv("AWS_ENDPOINT_URL_STS")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")  # they come before a web identity
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never sent")
    assert s3_client.client()


def test_googles_store_where_another_endpoint_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = {"type": "authorized_user", "client_id": "a", "client_secret": "b", "refresh_token": "c"}
    (tmp_path / "login.json").write_text(json.dumps(known))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "login.json"))
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", FAR)
    with pytest.raises(ConfigError, match="the token for Google Cloud Storage would go to nobody.invalid in clear"):
        GcsStore("gs://bucket").exists("key")
