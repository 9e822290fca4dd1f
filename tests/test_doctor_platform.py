"""What the doctor says of a platform: what it names is there, nodes take its tasks, its account is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.client.finding import FAIL, OK, WARN
from tests.fakes.kubernetes_tasks import TaskCluster
from tests.test_doctor_tasks import ask, cluster

__all__ = ["ask", "cluster"]
TEXT = """
image_pull_secrets: [registry]
secret_env: {HF_TOKEN: hub/token, OTHER: $left/key}
volumes: ["config:ca:/etc/ca"]
train: {volumes: ["claim:weights:/weights"]}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    (tmp_path / "platform.yaml").write_text(TEXT)
    return tmp_path / "platform.yaml"


def add(cluster: TaskCluster, plural: str, name: str, **more: Any) -> None:
    cluster.add(plural, {"metadata": {"name": name}, **more})


def test_what_a_platform_names_is_looked_for(cluster: TaskCluster, ask: Any, platform: Path) -> None:
    row = ask("--platform", str(platform))["platform"]
    assert row["status"] == FAIL and "waits for ever" in row["advice"]
    assert row["found"] == "missing: config map ca; claim weights; secret hub; secret registry"
    add(cluster, "secrets", "registry")
    add(cluster, "secrets", "hub", data={"key": "aHVzaA=="})
    add(cluster, "configmaps", "ca", data={"ca.pem": "x"})
    add(cluster, "persistentvolumeclaims", "weights")
    row = ask("--platform", str(platform))["platform"]
    assert (row["status"], row["found"]) == (FAIL, "missing: secret hub without token")
    add(cluster, "secrets", "hub", data={"token": "aHVzaA=="})
    row = ask("--platform", str(platform))["platform"]
    assert row["status"] == OK
    assert row["found"] == "config map ca, claim weights, secret hub, secret registry; left to the runs: $left"
    assert "platform" not in ask()


def test_what_may_not_be_looked_at_is_said(cluster: TaskCluster, ask: Any, platform: Path) -> None:
    for plural, name in (("configmaps", "ca"), ("persistentvolumeclaims", "weights")):
        add(cluster, plural, name)
    cluster.rules = [{"apiGroups": [""], "resources": ["pods", "configmaps", "persistentvolumeclaims"], "verbs": ["*"]}]
    row = ask("--platform", str(platform))["platform"]
    assert (row["status"], row["found"]) == (WARN, "not looked at, for want of rights: secret hub, secret registry")


def test_nodes_are_asked_for_what_the_platform_says(cluster: TaskCluster, ask: Any, platform: Path) -> None:
    cluster.forget_nodes()
    taint = {"key": "dedicated", "value": "vision", "effect": "NoSchedule"}
    cluster.node("one", cpu="10", memory="40Gi", gpus=1, taints=[taint])
    assert ask("--platform", str(platform))["nodes"]["status"] == FAIL
    platform.write_text("tolerations: ['dedicated=vision:NoSchedule']\n")
    assert ask("--platform", str(platform))["nodes"]["status"] == OK
    platform.write_text("tolerations: ['dedicated=other:NoSchedule']\n")
    assert ask("--platform", str(platform))["nodes"]["status"] == FAIL
    platform.write_text("tolerations: [dedicated]\ntrain: {cpus: 12}\n")
    row = ask("--platform", str(platform))["nodes"]
    assert row["status"] == FAIL and "no node can ever take train: 12 CPUs, 32Gi, 1 GPUs" in row["found"]
    platform.write_text("tolerations: [dedicated]\nevaluate: {node_selector: {gpu: h100}}\n")
    assert "no node can ever take evaluate" in ask("--platform", str(platform))["nodes"]["found"]


def test_the_account_that_the_platform_names_is_asked_about(ask: Any, platform: Path) -> None:
    platform.write_text("service_account: default-editor\n")
    row = ask("--platform", str(platform))["rights of tasks"]
    assert row["found"] == "there is no service account default-editor"
