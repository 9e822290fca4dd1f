"""Whether a run is over, as the Kubernetes API says it to one of its pods."""

from __future__ import annotations

import http.client
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hqclip.cycle import run_state
from tests.fakes.faulty import Handler, Server

RUN = "cfa1aa4c-2262-4b50-9e6d-8a3b51e02380"


class Api(Handler):
    """Lists workflows as Kubernetes does: those of a label, their metadata alone if that is asked for."""

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if self.headers["Authorization"] != "Bearer token-of-the-pod":
            return self.send({"kind": "Status", "code": 401}, 401, {})
        found, code, leads_to = self.server.answer((asked.path, parse_qs(asked.query), self.headers["Accept"]))
        return self.send(found, code, {"Location": leads_to})


class Cluster:
    """The labels of the workflows in a namespace, `spec` is that of all; `code` is what the API answers with."""

    def __init__(self) -> None:
        self.workflows: list[dict[str, str]] = []
        self.spec: dict[str, Any] = {}
        self.code, self.leads_to = 200, ""
        self.asked: list[Any] = []

    def answer(self, request: Any) -> Any:
        self.asked.append(request)
        path, query, accepted = request
        name, _, value = query["labelSelector"][0].partition("=")
        assert path == "/apis/argoproj.io/v1alpha1/namespaces/kubeflow/workflows"
        kind = "PartialObjectMetadataList" if accepted == run_state.LABELS_ONLY else "WorkflowList"
        whole = {} if kind == "PartialObjectMetadataList" else {"spec": self.spec}
        found = [{"metadata": {"labels": labels}, **whole} for labels in self.workflows if labels.get(name) == value]
        return {"kind": kind, "items": found or None} if self.code == 200 else {}, self.code, self.leads_to


class Plainly(urllib.request.HTTPSHandler):
    """Speaks in clear where TLS is wanted."""

    def __init__(self, context: None = None) -> None:
        super().__init__()

    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(http.client.HTTPConnection, req)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """The API server of the cluster that this process has a pod in."""
    cluster = Cluster()
    with Server(lambda request: cluster.answer(request), Api) as server:  # as a test may change it
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, text in (("token", "token-of-the-pod\n"), ("namespace", "kubeflow"), ("ca.crt", "")):
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(run_state, "ACCOUNT", tmp_path)
        monkeypatch.setattr(run_state.ssl, "create_default_context", lambda cafile: None)
        monkeypatch.setenv(run_state.HOST, "127.0.0.1")
        monkeypatch.setenv(run_state.PORT, str(server.server_address[1]))
        monkeypatch.setattr(urllib.request, "HTTPSHandler", Plainly)
        yield cluster
        server.shutdown()


def test_a_run_is_over_when_its_workflow_is(cluster: Cluster) -> None:
    other = {run_state.RUN_LABEL: "another", run_state.COMPLETED: "true"}
    cluster.workflows = [{run_state.RUN_LABEL: RUN, run_state.COMPLETED: "false"}, other]
    assert run_state.state_of(RUN) == "running"
    cluster.workflows[0] |= {run_state.COMPLETED: "true"}
    assert run_state.state_of(RUN) == "over"
    assert {accepted for _, _, accepted in cluster.asked} == {
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    }, "a whole workflow has megabytes"


@pytest.mark.parametrize(
    ("spec", "cancelled"),
    [
        ({"activeDeadlineSeconds": 0}, True),  # as Kubeflow does it
        ({"shutdown": "Stop"}, True),  # as Argo does it
        ({"activeDeadlineSeconds": 3600}, False),
        ({}, False),
    ],
)
def test_a_run_was_cancelled_if_its_workflow_was_told_to_end(
    cluster: Cluster, spec: dict[str, Any], cancelled: bool
) -> None:
    cluster.workflows, cluster.spec = [{run_state.RUN_LABEL: RUN}], spec
    assert run_state.was_cancelled(RUN) is cancelled
    assert not run_state.was_cancelled("another")
    cluster.code = 403
    assert not run_state.was_cancelled(RUN), "who may not look does not know"


def test_a_workflow_that_nobody_knows_says_nothing(cluster: Cluster) -> None:
    """It may be that of another namespace."""
    assert run_state.state_of(RUN) == ""
    assert run_state.state_of("local:host:7") == ""
    assert len(cluster.asked) == 2


@pytest.mark.parametrize("code", [401, 403, 404, 500])
def test_an_api_that_refuses_says_nothing(cluster: Cluster, code: int) -> None:
    cluster.code = code
    assert run_state.state_of(RUN) == ""
    assert cluster.asked


def test_outside_a_cluster_nobody_is_asked(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_state.ACCOUNT / "token").unlink()
    assert run_state.state_of(RUN) == ""
    monkeypatch.delenv(run_state.HOST)
    assert run_state.state_of(RUN) == ""
    assert not cluster.asked


def test_an_api_that_does_not_answer_says_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(run_state.PORT, "1")
    assert run_state.state_of(RUN) == ""
    assert not cluster.asked


def test_the_token_of_the_pod_follows_no_redirect(cluster: Cluster) -> None:
    heard: list[Any] = []

    class Elsewhere(Handler):
        def do_GET(self) -> None:
            heard.append(self.headers["Authorization"])
            self.send({"items": []}, 200, {})

    with Server(cluster.answer, Elsewhere) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        cluster.code, cluster.leads_to = 307, f"http://127.0.0.1:{elsewhere.server_address[1]}/"
        assert run_state.state_of(RUN) == ""
        elsewhere.shutdown()
    assert cluster.asked and heard == []


@pytest.mark.parametrize(
    "answer", [[], "x", {"items": 5}, {"items": [None]}, {"items": [{"metadata": {}}]}, {"items": [{"metadata": []}]}]
)
def test_an_answer_that_is_none_of_the_api_says_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(Cluster, "answer", lambda self, request: (answer, 200, ""))
    assert run_state.state_of(RUN) == ""
    assert not run_state.was_cancelled(RUN)
