"""Lists and watches of the fake API server: versions, bookmarks, what is too old, rows instead of objects."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_client import Client, job

PODS = "/api/v1/namespaces/training/pods"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster:
        Client(cluster).create(job())
        cluster.start_pods("train")
        yield cluster


def get(cluster: FakeCluster, query: str, headers: dict[str, str] | None = None) -> Any:
    return urllib3.PoolManager().request(
        "GET", f"{cluster.url}{PODS}?{query}", headers=headers or {}, preload_content=False
    )


def events(answer: Any, number: int) -> list[dict[str, Any]]:
    lines = answer.stream(1)
    found: list[dict[str, Any]] = []
    line = b""
    while len(found) < number:
        line += next(lines)
        if line.endswith(b"\n"):
            found.append(json.loads(line))
            line = b""
    return found


def version(cluster: FakeCluster) -> str:
    return str(get(cluster, "").json()["metadata"]["resourceVersion"])


def test_a_watch_tells_what_happened_since_a_list_in_its_order(cluster: FakeCluster) -> None:
    since = version(cluster)
    cluster.pod_phase("train-node-0", "Pending", "ErrImagePull")
    cluster.delete("pods", "train-node-1")
    cluster.event("Pod", "train-node-0", "Failed", "is of another kind, and not told")
    told = events(get(cluster, f"watch=true&resourceVersion={since}"), 2)
    assert [(event["type"], event["object"]["metadata"]["name"]) for event in told] == [
        ("MODIFIED", "train-node-0"),
        ("DELETED", "train-node-1"),
    ]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in told]
    assert int(since) < versions[0] < versions[1]


def test_a_watch_goes_on_with_what_happens_later(cluster: FakeCluster) -> None:
    answer = get(cluster, f"watch=true&resourceVersion={version(cluster)}")
    threading.Timer(0.1, cluster.pod_phase, ("train-node-0", "Running")).start()
    assert events(answer, 1)[0]["object"]["status"]["phase"] == "Running"


def test_bookmarks_come_to_those_who_asked(cluster: FakeCluster) -> None:
    since = version(cluster)
    cluster.bookmark()
    cluster.pod_phase("train-node-0", "Running")
    first = events(get(cluster, f"watch=true&resourceVersion={since}&allowWatchBookmarks=true"), 1)[0]
    assert first["type"] == "BOOKMARK" and int(first["object"]["metadata"]["resourceVersion"]) > int(since)
    assert events(get(cluster, f"watch=true&resourceVersion={since}"), 1)[0]["type"] == "MODIFIED"


def test_what_is_forgotten_has_to_be_listed_again(cluster: FakeCluster) -> None:
    since = version(cluster)
    cluster.pod_phase("train-node-0", "Running")
    cluster.forget()
    answer = get(cluster, f"watch=true&resourceVersion={since}")
    assert answer.status == 200
    (told,) = events(answer, 1)
    assert (told["type"], told["object"]["code"], told["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert "too old resource version" in told["object"]["message"]


def test_a_watch_ends_when_its_time_is_up_and_breaks_when_told_to(cluster: FakeCluster) -> None:
    since = version(cluster)
    assert get(cluster, f"watch=true&resourceVersion={since}&timeoutSeconds=0.1").data == b""
    cluster.pod_phase("train-node-0", "Running")
    cluster.drop_watch_after("pods", 0)
    with pytest.raises(urllib3.exceptions.HTTPError):
        events(get(cluster, f"watch=true&resourceVersion={since}"), 1)


def test_a_table_has_rows_and_no_objects(cluster: FakeCluster) -> None:
    cluster.end_pod("train-node-0", 137, reason="OOMKilled")
    cluster.pod_phase("train-node-1", "Pending", "ImagePullBackOff")
    told = get(cluster, "limit=1", TABLE).json()
    assert told["kind"] == "Table" and told["metadata"]["remainingItemCount"] == 1
    told = get(cluster, "", TABLE).json()
    names = [column["name"] for column in told["columnDefinitions"]]
    rows = [dict(zip(names, row["cells"], strict=True)) for row in told["rows"]]
    assert [(row["Name"], row["Status"]) for row in rows] == [
        ("train-node-0", "OOMKilled"),
        ("train-node-1", "ImagePullBackOff"),
    ]
    since = told["metadata"]["resourceVersion"]
    for phase in ("Pending", "Running"):
        cluster.pod_phase("train-node-0", phase, "ContainerCreating")
    first, second = events(get(cluster, f"watch=true&resourceVersion={since}", TABLE), 2)
    assert first["object"]["columnDefinitions"] and not second["object"]["columnDefinitions"]
    assert second["object"]["rows"][0]["cells"][2] == "Running"
    assert int(second["object"]["metadata"]["resourceVersion"]) > int(since)
