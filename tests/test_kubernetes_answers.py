"""What answers in place of the Kubernetes API is named, whatever it says; and a login is for the API alone."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import ConfigError, DataError, UnavailableError
from hqclip.launch import kube
from tests.fakes.faulty import Handler, Server
from tests.launching import write_kubeconfig

JOBS = "batch/v1", "jobs"


class Foreign(Handler):
    """Answers everything in one way, and remembers who asked."""

    def do_GET(self) -> None:
        self.received()
        body, code, headers = self.server.answer(self.headers["Authorization"])
        self.send(body, code, headers)

    do_POST = do_GET


@contextmanager
def answering(body: Any, code: int = 200, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """The address of a server, and the logins that it heard."""
    heard: list[str] = []

    def answer(login: str) -> Any:
        heard.append(login)
        return body, code, headers

    with Server(answer, Foreign) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
        server.shutdown()


def cluster_at(server: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> kube.Cluster:
    config = write_kubeconfig(folder / "config", server, token="a-secret")
    monkeypatch.setenv("KUBECONFIG", str(config))
    return kube.connect()


@pytest.mark.parametrize(
    "answer",
    [
        "hello",
        "[" * 100_000,
        [],
        5,
        {"items": 5},
        {"items": [None]},
        {"items": [{}]},
        {"items": [{"metadata": {"name": 5}}]},
        {"items": [{"metadata": {"name": "job", "labels": []}}]},
        {"items": [{"metadata": {"name": "job"}, "status": "?"}]},
        {"metadata": "?", "items": []},
        {"metadata": {"continue": "again"}, "items": []},
    ],
)
def test_what_is_no_list_of_objects_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    told = r"not the Kubernetes API .*look at the server in KUBECONFIG"
    with answering(answer) as (server, _), pytest.raises(DataError, match=told):
        cluster_at(server, tmp_path, monkeypatch).list(*JOBS)


def test_what_is_null_counts_as_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"metadata": {"name": "job", "labels": None}, "status": None}
    with answering({"metadata": None, "items": [job]}) as (server, _):
        assert cluster_at(server, tmp_path, monkeypatch).list(*JOBS) == [{"metadata": {"name": "job"}}]
    with answering({"items": None}) as (server, _):
        assert cluster_at(server, tmp_path, monkeypatch).list(*JOBS) == []


@pytest.mark.parametrize("answer", [{}, {"metadata": {}}, {"metadata": 5}])
def test_an_object_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    with answering(answer) as (server, _):
        cluster = cluster_at(server, tmp_path, monkeypatch)
        with pytest.raises(DataError, match="not the Kubernetes API"):
            cluster.get(*JOBS, "job")
        with pytest.raises(DataError, match="not the Kubernetes API"):
            cluster.create(*JOBS, {})
        assert cluster.newest("batch") == ""


@pytest.mark.parametrize("answer", [{"columnDefinitions": 5}, {"columnDefinitions": [5]}, {"rows": 5}, {"rows": [5]}])
def test_what_is_no_table_is_not_taken_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    with answering(answer) as (server, _), pytest.raises(DataError, match="not the Kubernetes API"):
        cluster_at(server, tmp_path, monkeypatch).table(*JOBS)
    event = json.dumps({"type": "ADDED", "object": answer}) + "\n"
    with answering(event) as (server, _), pytest.raises(DataError, match="not the Kubernetes API"):
        list(cluster_at(server, tmp_path, monkeypatch).watch(*JOBS, ""))


def test_the_line_of_a_watch_is_an_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in ("5", "[]", '{"object": 5}'):
        with answering(line + "\n") as (server, _), pytest.raises(DataError, match="not the Kubernetes API"):
            list(cluster_at(server, tmp_path, monkeypatch).watch(*JOBS, ""))
    with answering("[" * 100_000 + "\n") as (server, _), pytest.raises(UnavailableError, match="broke off"):
        list(cluster_at(server, tmp_path, monkeypatch).watch(*JOBS, ""))


def test_a_login_follows_no_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering({"items": []}) as (elsewhere, heard), answering({}, 307, Location=elsewhere) as (server, asked):
        cluster = cluster_at(server, tmp_path, monkeypatch)
        with pytest.raises(ConfigError, match="Kubernetes refuses this"):
            cluster.list(*JOBS)
    assert asked == ["Bearer a-secret"] and heard == []
