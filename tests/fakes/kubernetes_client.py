"""The real client on a `FakeCluster`, a job of each kind for it, and the Status of what was refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kubernetes.client import ApiClient, ApiException, BatchV1Api, Configuration, CoreV1Api, CustomObjectsApi

from tests.fakes.kubernetes import FakeCluster

VOLCANO = ("batch.volcano.sh", "v1alpha1", "training", "jobs")
JOBSET = ("jobset.x-k8s.io", "v1alpha2", "training", "jobsets")
NEXT_TASK = {"name": "more", "replicas": 1, "template": {"spec": {"containers": [{"name": "main", "image": "x"}]}}}


def template() -> dict[str, Any]:
    containers = [{"name": "main", "image": "hqclip", "resources": {"limits": {"nvidia.com/gpu": 8, "memory": "1Gi"}}}]
    return {"metadata": {"labels": {"team": "vision"}}, "spec": {"restartPolicy": "Never", "containers": containers}}


def job(name: str = "train", **spec: Any) -> dict[str, Any]:
    tasks = [{"name": "node", "replicas": 2, "template": template()}]
    metadata = {"name": name, "labels": {"stage": name}}
    return {
        "apiVersion": "batch.volcano.sh/v1alpha1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"tasks": tasks, **spec},
    }


def jobset(name: str = "train", rjob: str = "node", **spec: Any) -> dict[str, Any]:
    inner = {"parallelism": 2, "completions": 2, "completionMode": "Indexed", "template": template()}
    jobs = [{"name": rjob, "replicas": 1, "template": {"spec": inner}}]
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": name},
        "spec": {"replicatedJobs": jobs, **spec},
    }


class Client:
    """The real client, without tries of its own."""

    def __init__(self, cluster: FakeCluster) -> None:
        settings = Configuration(host=cluster.url)
        settings.retries = False
        self.url, api = cluster.url, ApiClient(settings)
        self.custom, self.core, self.batch = CustomObjectsApi(api), CoreV1Api(api), BatchV1Api(api)
        self.pool = api.rest_client.pool_manager

    def create(self, body: dict[str, Any], where: tuple[str, str, str, str] = VOLCANO, **more: Any) -> dict[str, Any]:
        return dict(self.custom.create_namespaced_custom_object(*where, body, **more))

    def get(self, name: str = "train", where: tuple[str, str, str, str] = VOLCANO) -> dict[str, Any]:
        return dict(self.custom.get_namespaced_custom_object(*where, name))

    def list(self, where: tuple[str, str, str, str] = VOLCANO, **more: Any) -> dict[str, Any]:
        return dict(self.custom.list_namespaced_custom_object(*where, **more))

    def delete(self, name: str = "train", **more: Any) -> dict[str, Any]:
        return dict(self.custom.delete_namespaced_custom_object(*VOLCANO, name, **more))

    def raw(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **fields: str
    ) -> Any:
        """As urllib3 has it."""
        query = f"?{'&'.join(f'{key}={value}' for key, value in fields.items())}" if fields else ""
        data = None if body is None else json.dumps(body)
        return self.pool.request(
            method, self.url + path + query, body=data, headers={"Content-Type": content_type}, preload_content=False
        )

    def log(self, pod: str, **fields: str) -> Any:
        return self.raw("GET", f"/api/v1/namespaces/training/pods/{pod}/log", **fields)


def refusal(call: Callable[[], object]) -> tuple[int, dict[str, Any]]:
    """The number and the Status that a call is refused with."""
    with pytest.raises(ApiException) as caught:
        call()
    body = json.loads(caught.value.body)
    assert (body["kind"], body["status"], body["code"]) == ("Status", "Failure", caught.value.status)
    return int(caught.value.status), body
