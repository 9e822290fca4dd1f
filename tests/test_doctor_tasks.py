"""What the doctor says of the place where tasks run: Pod Security, their account, nodes, what overlays need."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.flags import Parser
from hqclip.launch import kube
from hqclip.launch.pod_security import AGAINST
from hqclip.launch.registry import KUBERNETES, load
from pipelines.client import doctor, doctor_tasks
from pipelines.client.finding import FAIL, OK, WARN
from pipelines.hardware import REQUESTS
from tests.fakes.kubernetes_api import Resource
from tests.fakes.kubernetes_tasks import RUNNER, TaskCluster
from tests.launching import write_kubeconfig
from tests.test_manifests import find, render, rights

Rows = dict[str, dict[str, str]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TaskCluster]:
    with TaskCluster() as fake:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", fake.url)))
        monkeypatch.delenv("HQCLIP_KFP_HOST", raising=False)
        yield fake


@pytest.fixture
def ask(cluster: TaskCluster, capsys: pytest.CaptureFixture[str]) -> Any:
    def rows(*words: str) -> Rows:
        parser = Parser()
        doctor.add_arguments(parser)
        doctor.run(parser.parse_args(["--cluster", "--patience-s", "1", "-o", "json", *words]))
        return {row["check"]: row for row in json.loads(capsys.readouterr().out)}

    return rows


def launcher_rules() -> list[dict[str, Any]]:
    return list(find(render("base"), "Role", "hqclip-launcher")["rules"])


@pytest.mark.parametrize("level", ["privileged", "baseline", "restricted"])
def test_the_pod_of_a_task_is_taken_at_every_level(cluster: TaskCluster, ask: Any, level: str) -> None:
    cluster.enforce(level)
    row = ask()["pod security"]
    assert (row["status"], row["found"]) == (OK, f"it enforces {level}, and takes the pod of a task (dry run)")
    assert not cluster.names("pods")


def test_what_a_task_lacks_for_the_namespace_is_told(
    cluster: TaskCluster, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.enforce("restricted")
    pod = doctor_tasks.task_pod()
    del pod["spec"]["containers"][0]["securityContext"]["runAsNonRoot"]  # as tasks were
    monkeypatch.setattr(doctor_tasks, "task_pod", lambda: pod)
    row = ask()["pod security"]
    assert row["status"] == FAIL
    assert 'violates PodSecurity "restricted:latest"' in row["found"]


def test_a_quota_that_wants_what_tasks_do_not_say_is_told(cluster: TaskCluster, ask: Any) -> None:
    cluster.limits = ("cpu",)
    row = ask()["pod security"]
    assert row["status"] == FAIL
    assert "failed quota: lim: must specify limits.cpu for: main" in row["found"]


def test_the_pod_that_is_tried_is_as_strict_as_the_strictest_level_wants() -> None:
    assert AGAINST["restricted"](doctor_tasks.task_pod()) == []


def test_who_may_look_at_nothing_is_told_so(cluster: TaskCluster, ask: Any) -> None:
    cluster.rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]
    rows = ask()
    assert "its level may not be read" in rows["pod security"]["found"]
    assert "may make no pods" in rows["pod security"]["found"]
    for name in ("rights of tasks", "nodes"):
        assert rows[name]["status"] == WARN
        assert "cannot" in rows[name]["found"]
    cluster.rules += [{"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]}]
    row = ask()["rights of tasks"]
    assert row["status"] == WARN
    assert 'cannot create resource "localsubjectaccessreviews"' in row["found"]
    assert f"auth can-i --list --as=system:serviceaccount:training:{RUNNER}" in row["advice"]


def test_the_rights_of_the_account_of_tasks_are_those_of_the_role_of_launchers(cluster: TaskCluster, ask: Any) -> None:
    cluster.account_rules = launcher_rules()
    assert ask()["rights of tasks"]["status"] == OK
    wanted = set(doctor_tasks.rights_to_launch([load(name) for name in KUBERNETES]))
    assert wanted <= rights({"rules": launcher_rules()})


@pytest.mark.parametrize(
    ("group", "resource", "said"),
    [
        ("batch.volcano.sh", "jobs", "cannot get jobs.batch.volcano.sh, create jobs.batch.volcano.sh"),
        ("jobset.x-k8s.io", "jobsets", "delete jobsets.jobset.x-k8s.io"),
        ("", "pods/log", "cannot get pods/log"),
        ("argoproj.io", "workflows", "cannot get workflows.argoproj.io"),
    ],
)
def test_a_right_that_tasks_lack_is_named_though_the_caller_has_all(
    cluster: TaskCluster, ask: Any, tmp_path: Path, group: str, resource: str, said: str
) -> None:
    cluster.account_rules = [
        rule for rule in launcher_rules() if (rule["apiGroups"], rule["resources"]) != ([group], [resource])
    ]
    rows = ask()
    assert rows["rights"]["status"] == OK, "of whoever asks"
    assert rows["rights of tasks"]["status"] == WARN, "nothing is launched"
    assert said in rows["rights of tasks"]["found"]
    machines = tmp_path / "machines.yaml"
    machines.write_text("scheduler: volcano\nimage: r.example/train:1\ntrain: {nodes: 2}\n")
    assert ask("--launch", str(machines))["rights of tasks"]["status"] == FAIL


def test_an_account_that_is_not_there_fails(ask: Any) -> None:
    assert ask()["rights of tasks"]["status"] == OK
    row = ask("--service-account", "somebody")["rights of tasks"]
    assert (row["status"], row["found"]) == (FAIL, "there is no service account somebody")


def test_nodes_that_cannot_take_a_task_are_told(cluster: TaskCluster, ask: Any, tmp_path: Path) -> None:
    cluster.forget_nodes()
    cluster.node("kind", cpu="2", memory="7936Mi")
    row = ask()["nodes"]
    assert row["status"] == FAIL
    assert "annotate, score, train, evaluate: 8 CPUs, 32Gi, 1 GPUs" in row["found"]
    assert "There are 1 (2 CPUs, 7.8Gi, 0 GPUs)" in row["found"]
    assert "--requests small" in row["advice"]
    assert ask("--requests", "small")["nodes"]["status"] == OK
    cluster.node("cpus", cpu="16", memory="64Gi")
    assert "download" not in ask()["nodes"]["found"]
    machines = tmp_path / "machines.yaml"
    names = "annotate: {}\nscore: {}\ntrain: {}\nevaluate: {}\n"
    machines.write_text(f"scheduler: volcano\nimage: r.example/train:1\n{names}")
    assert ask("--launch", str(machines))["nodes"]["status"] == OK, "these have machines of their own"


@pytest.mark.parametrize(
    ("spec", "status"),
    [
        ({}, OK),
        ({"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]}, OK),
        ({"taints": [{"key": "busy", "effect": "PreferNoSchedule"}]}, OK),
        ({"taints": [{"key": "team", "value": "x", "effect": "NoSchedule"}]}, FAIL),
        ({"unschedulable": True}, FAIL),
    ],
)
def test_a_node_that_is_closed_takes_nothing(cluster: TaskCluster, spec: dict[str, Any], status: str) -> None:
    cluster.forget_nodes()
    cluster.node("cpus", cpu="16", memory="64Gi")
    cluster.node("gpus", cpu="96", memory="1000Gi", gpus=8, **spec)
    assert doctor_tasks.nodes(kube.connect(), "").status == status


def test_a_cluster_that_grows_may_bring_a_node(cluster: TaskCluster, ask: Any) -> None:
    cluster.forget_nodes()
    assert "There are 0 (none takes pods)" in ask()["nodes"]["found"]
    maps = Resource("", "v1", "configmaps", "ConfigMap")
    cluster.resources.append(maps)
    cluster.objects[maps] = {}
    cluster.add("configmaps", {"metadata": {"name": "cluster-autoscaler-status"}}, "kube-system")
    row = ask()["nodes"]
    assert (row["status"], "autoscaler may bring one" in row["advice"]) == (WARN, True)


def test_each_stage_that_works_has_its_request_in_every_set() -> None:
    assert len({frozenset(stages) for stages in REQUESTS.values()}) == 1


def test_an_overlay_whose_kinds_are_missing_is_named_with_what_to_install(
    tmp_path: Path, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ask()["overlays"]["found"] == "the kinds of all overlays are there"
    with TaskCluster(installed={"jobsets"}) as bare:
        monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "bare", bare.url)))
        found = ask()["overlays"]["found"]
    assert "overlays/gke first needs Kueue 0.15 or newer" in found
    assert "overlays/onprem first needs Volcano" in found
    groups = {obj["apiVersion"].partition("/")[0] for o in ("gke", "onprem") for obj in render(f"overlays/{o}")}
    assert {"kueue.x-k8s.io", "scheduling.volcano.sh"} == {g for g in groups if g in doctor_tasks.GROUPS}
    assert all(group in doctor_tasks.GROUPS or "x-k8s" not in group and "volcano" not in group for group in groups)
