"""The manifests: what they render is valid, fits what the code renders, and grants exactly what the code asks for."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import hqclip
from hqclip.cli import main, parse
from hqclip.errors import TerminatedError, UnavailableError
from hqclip.launch import kube, watch
from hqclip.launch.kube import Cluster
from hqclip.launch.pod_secrets import secrets_in
from hqclip.launch.pod_security import AGAINST
from hqclip.launch.run import launch
from hqclip.launch.spec import LaunchSpec
from tests import crd_schemas
from tests.fakes.kubernetes import FakeCluster
from tests.jobs import Jobs
from tests.launching import CREATE, IMAGE, PLURAL, SETTINGS, Pods, write_kubeconfig
from tests.rendering import Json, rendered, template

MANIFESTS = Path(__file__).parents[1] / "manifests"
FOLDERS = ("base", *sorted(str(path.relative_to(MANIFESTS)) for path in MANIFESTS.glob("overlays/*")))
CLUSTER_WIDE = ("Namespace", "PriorityClass", "ClusterQueue", "ResourceFlavor", "Queue")
Right = tuple[str, str, str]  # verb, group, resource


@functools.cache
def render(folder: str | Path) -> list[Json]:
    """The objects of a folder below manifests/, or of any other."""
    if shutil.which("kubectl") is None:
        pytest.fail("kubectl is not on PATH: install it (1.27 or later, no cluster is needed) to test the manifests")
    done = subprocess.run(["kubectl", "kustomize", MANIFESTS / folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def find(objects: list[Json], kind: str, name: str = "") -> Json:
    """The one object of a kind (and name)."""
    (found,) = (obj for obj in objects if obj["kind"] == kind and name in ("", obj["metadata"]["name"]))
    return found


def rights(role: Json) -> set[Right]:
    return {
        (verb, group, resource)
        for rule in role["rules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def selects(selector: Json, labels: dict[str, str]) -> bool:
    """Whether a label selector (as far as ours go) fits."""
    parts = selector.get("matchExpressions", [])
    assert {part["operator"] for part in parts} <= {"Exists", "In"}
    return (
        selector.get("matchLabels", {}).items() <= labels.items()
        and all(
            labels[part["key"]] in part.get("values", [labels[part["key"]]]) for part in parts if part["key"] in labels
        )
        and all(part["key"] in labels for part in parts)
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_valid(folder: str) -> None:
    objects = render(folder)
    for obj in objects:
        group = obj["apiVersion"].rpartition("/")[0]
        if group == "scheduling.volcano.sh":
            assert crd_schemas.check(obj["kind"], obj) == []
        elif group != "kueue.x-k8s.io":  # those: see below
            kubernetes_validate.validate(obj, "1.32", strict=True)
    names = [(obj["kind"], obj["metadata"]["name"]) for obj in objects]
    assert len(set(names)) == len(names) > 10


def test_no_manifest_holds_or_seems_to_hold_a_secret() -> None:
    paths = [path for path in MANIFESTS.rglob("*.yaml") if "platforms" not in path.parts]
    objects = [(path, body) for path in paths for body in yaml.safe_load_all(path.read_text()) if body]
    assert len(objects) > 20
    assert [(path, told) for path, body in objects for told in secrets_in(body)] == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_of_a_namespace_is_in_the_same_one(folder: str) -> None:
    objects = render(folder)
    given = {obj["metadata"].get("namespace") for obj in objects if obj["kind"] not in CLUSTER_WIDE}
    assert given == {"kubeflow" if folder == "overlays/kubeflow" else "hqclip"}
    assert not [obj for obj in objects if obj["kind"] in CLUSTER_WIDE and "namespace" in obj["metadata"]]
    bindings = [obj for obj in objects if obj["kind"] == "RoleBinding"]
    for binding in bindings:
        find(objects, "Role", binding["roleRef"]["name"])
        (subject,) = binding["subjects"]
        assert {subject["namespace"]} == given
        if binding["metadata"]["name"] != "hqclip-launcher-pipelines":
            find(objects, "ServiceAccount", subject["name"])
    assert len(bindings) >= 2


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_janitor_is_small_alone_and_keeps_the_strictest_level(folder: str) -> None:
    spec = find(render(folder), "CronJob")["spec"]
    pod = spec["jobTemplate"]["spec"]["template"]
    assert AGAINST["restricted"](pod) == []
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert {"cpu", "memory"} == set(container["resources"]["requests"]) == set(container["resources"]["limits"])
    assert spec["concurrencyPolicy"] == "Forbid" and spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 600
    program, *words = container["command"]
    assert program == "hqclip" and parse(" ".join(words[:2]), words[2:])
    name, _, tag = container["image"].rpartition(":")
    assert name.endswith("hqclip/launch") and tag == hqclip.__version__


def test_the_image_is_pinned_as_the_readme_says(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"^```yaml\n(images:\n.*?)```", readme(), re.MULTILINE | re.DOTALL)
    objects = compose(tmp_path, "resources: [../../base]\n" + recipe.replace("...", "0123"))
    pod = find(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/hqclip/launch@sha256:0123"


def readme() -> str:
    return (MANIFESTS / "README.md").read_text()


def compose(tmp_path: Path, kustomization: str) -> list[Json]:
    """What a further overlay renders."""
    shutil.copytree(MANIFESTS, tmp_path / "manifests")
    mine = tmp_path / "manifests" / "overlays" / "mine"
    mine.mkdir()
    (mine / "kustomization.yaml").write_text(kustomization)
    return render(mine)


@pytest.mark.parametrize("scheduler", PLURAL)
@pytest.mark.parametrize("folder", FOLDERS)
def test_workers_find_their_account_their_network_and_their_level(folder: str, scheduler: str) -> None:
    objects, pod = render(folder), template(rendered(scheduler))
    account = find(objects, "ServiceAccount", pod["spec"]["serviceAccountName"])
    assert account["automountServiceAccountToken"] is False
    assert AGAINST["restricted"](pod) == []
    policy = find(objects, "NetworkPolicy", "hqclip-workers")["spec"]
    labels = pod["metadata"]["labels"]
    assert selects(policy["podSelector"], labels)
    (ingress,) = policy["ingress"]
    assert ingress == {"from": [{"podSelector": policy["podSelector"]}]}  # all ports, and nobody else
    assert policy["egress"][0] == {"to": [{"podSelector": policy["podSelector"]}]}
    janitor = find(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["metadata"]["labels"]
    assert not selects(policy["podSelector"], janitor)


@pytest.mark.parametrize(
    ("folder", "profile", "admitted"),
    [
        ("base", "generic-8gpu", True),
        ("base", "gke-a3-ultra", False),
        ("overlays/gke", "gke-a3-ultra", True),
        ("overlays/gke", "gke-a3-mega", False),
        ("overlays/onprem", "generic-8gpu", True),
    ],
)
def test_a_namespace_admits_the_hardware_it_is_for(folder: str, profile: str, admitted: bool) -> None:
    labels = find(render(folder), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"
    problems = AGAINST[labels["pod-security.kubernetes.io/enforce"]](template(rendered("volcano", profile=profile)))
    assert (problems == []) is admitted, problems


def test_the_namespace_of_kubeflow_is_left_as_it_is() -> None:
    assert "Namespace" not in {obj["kind"] for obj in render("overlays/kubeflow")}


def test_the_tasks_of_kubeflow_may_launch_and_nothing_else() -> None:
    objects = render("overlays/kubeflow")
    bindings = [obj for obj in objects if obj["kind"] == "RoleBinding"]
    (binding,) = (obj for obj in bindings if obj["subjects"][0]["name"] == "pipeline-runner")
    assert binding["roleRef"]["name"] == "hqclip-launcher"
    for role in ("hqclip-launcher", "hqclip-operator", "hqclip-janitor"):
        assert find(objects, "Role", role)["rules"] == find(render("base"), "Role", role)["rules"]


def test_a_profile_of_kubeflow_on_gke_is_composed_as_the_readme_says(tmp_path: Path) -> None:
    (recipe,) = re.findall(r"^```yaml\n(namespace: team-a\n.*?)```", readme(), re.MULTILINE | re.DOTALL)
    objects = compose(tmp_path, recipe)
    assert {obj["metadata"].get("namespace") for obj in objects if obj["kind"] not in CLUSTER_WIDE} == {"team-a"}
    subject = find(objects, "RoleBinding", "hqclip-launcher-pipelines")["subjects"][0]
    assert subject == {"kind": "ServiceAccount", "name": "default-editor", "namespace": "team-a"}
    ports = [
        part.get("ports", [{}])[0].get("port")
        for part in find(objects, "NetworkPolicy", "hqclip-workers")["spec"]["egress"]
    ]
    assert ports == [None, 53, 443, 80, 988]


@pytest.mark.parametrize("who", ["launcher", "worker", "janitor", "tensorboard"])
def test_on_gke_everybody_who_reads_the_store_is_somebody_there(who: str) -> None:
    annotations = find(render("overlays/gke"), "ServiceAccount", f"hqclip-{who}")["metadata"]["annotations"]
    assert re.fullmatch(
        rf"hqclip-{who}@[A-Z]+\.iam\.gserviceaccount\.com", annotations["iam.gke.io/gcp-service-account"]
    )


def test_the_objects_of_kueue_are_of_the_version_that_it_keeps() -> None:
    """0.19 serves v1beta1 as well, with a warning at every apply."""
    versions = {obj["apiVersion"] for obj in render("overlays/gke") if "kueue" in obj["apiVersion"]}
    assert versions == {"kueue.x-k8s.io/v1beta2"}


@pytest.mark.parametrize("folder", ["overlays/gke", "overlays/onprem"])
def test_the_namespace_that_is_applied_first_is_the_one_of_the_overlay(folder: str) -> None:
    """`kubectl diff -k` compares nothing in a namespace that is not there."""
    lines = re.findall(r"^kubectl (?:apply|diff) .*$", readme(), re.MULTILINE)
    assert [line.split()[1:3] for line in lines[:3]] == [["apply", "-f"], ["diff", "-k"], ["apply", "-k"]]
    first = list(yaml.safe_load_all((MANIFESTS / lines[0].split()[-1]).read_text()))
    assert [obj["kind"] for obj in first] == ["Namespace"]
    names = {obj["metadata"].get("namespace") for obj in render(folder) if obj["kind"] not in CLUSTER_WIDE}
    assert names == {first[0]["metadata"]["name"]}


def test_kueue_has_room_for_what_a_launch_asks_for() -> None:
    objects = render("overlays/gke")
    local, queue = find(objects, "LocalQueue"), find(objects, "ClusterQueue")
    flavors = {obj["metadata"]["name"]: obj["spec"] for obj in objects if obj["kind"] == "ResourceFlavor"}
    assert local["spec"] == {"clusterQueue": queue["metadata"]["name"]}
    selector = queue["spec"]["namespaceSelector"]["matchLabels"]
    assert selector == {"kubernetes.io/metadata.name": local["metadata"]["namespace"]}
    (group,) = queue["spec"]["resourceGroups"]
    assert [flavor["name"] for flavor in group["flavors"]] == list(flavors)
    for flavor in group["flavors"]:
        assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]
    for spot in (False, True):
        pod = template(rendered("jobset", profile="gke-a3-ultra", disk="500Gi", spot=spot))["spec"]
        assert set(pod["containers"][0]["resources"]["requests"]) <= set(group["coveredResources"])
        wanted = pod["nodeSelector"].items()
        fitting = [name for name, spec in flavors.items() if wanted <= spec["nodeLabels"].items()]
        assert fitting == (["hqclip-a3-ultra-spot"] if spot else list(flavors))


@pytest.mark.parametrize("folder", ["overlays/gke", "overlays/onprem"])
def test_a_quota_lets_in_what_the_queue_does(folder: str) -> None:
    objects = render(folder)
    quota = find(objects, "ResourceQuota")["spec"]["hard"]
    if folder == "overlays/onprem":
        room = int(find(objects, "Queue")["spec"]["capability"]["nvidia.com/gpu"])
    else:
        (group,) = find(objects, "ClusterQueue")["spec"]["resourceGroups"]
        room = sum(int(flavor["resources"][0]["nominalQuota"]) for flavor in group["flavors"])
    assert int(quota["requests.nvidia.com/gpu"]) == room > 0


def test_queues_and_priorities_have_the_names_that_launches_give() -> None:
    assert find(render("overlays/onprem"), "Queue")["metadata"]["name"] == "hqclip"
    assert find(render("overlays/gke"), "LocalQueue")["metadata"]["name"] == "hqclip"
    train, batch = (find(render("base"), "PriorityClass", f"hqclip-{name}") for name in ("train", "batch"))
    assert train["value"] > batch["value"] and not train["globalDefault"] and not batch["globalDefault"]


def test_on_own_machines_everybody_pulls_with_the_same_secret() -> None:
    accounts = [obj for obj in render("overlays/onprem") if obj["kind"] == "ServiceAccount"]
    assert [len(account["imagePullSecrets"]) for account in accounts] == [1] * 4


def test_without_a_bucket_the_janitor_sees_the_folder_of_the_workers(tmp_path: Path) -> None:
    parts = "[../../components/tensorboard, ../../components/shared-volume]"
    objects = compose(tmp_path, f"resources: [../../base]\ncomponents: {parts}\n")
    claim = find(objects, "PersistentVolumeClaim")["metadata"]["name"]
    pod = find(objects, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    assert volumes["store"]["persistentVolumeClaim"] == {"claimName": claim, "readOnly": True}
    assert mounts["store"] == "/store"
    (flag,) = re.findall(r"`--volumes (\S+)`", readme())
    assert flag == f"claim:{claim}:/store"
    sync = find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "STORE", "value": "/store/hqclip"} in sync["env"]
    assert {"name": "store", "mountPath": "/store", "readOnly": True} in sync["volumeMounts"]
    kubernetes_validate.validate(find(objects, "PersistentVolumeClaim"), "1.32", strict=True)


def test_the_readme_tells_every_right() -> None:
    rows = re.findall(r"^\| (hqclip-\w+) \| (\S*) \| (\S+) \| ([\w, ]+) \|", readme(), re.MULTILINE)
    told: dict[str, set[Right]] = {}
    for role, group, resource, verbs in rows:
        told.setdefault(role, set()).update((verb, group.strip('"'), resource) for verb in verbs.split(", "))
    roles = [obj for obj in render("base") if obj["kind"] == "Role"]
    assert told == {role["metadata"]["name"]: rights(role) for role in roles}
    folders = [
        path.relative_to(MANIFESTS) for group in ("components", "examples") for path in MANIFESTS.glob(f"{group}/*")
    ]
    assert all(f"\n{folder}/" in readme() for folder in (*FOLDERS, *folders))


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two looks; how quick a deletion must be is told elsewhere."""
    monkeypatch.setattr(watch, "POLL_S", 0.01)
    monkeypatch.setattr(kube, "AT_ONCE", (20, 20))
    monkeypatch.setattr(Cluster, "wait", lambda *_: time.sleep(0.01))


def with_role(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    """A cluster where we are allowed what the role of this name grants, and nothing else."""
    rules = find(render("base"), "Role", name)["rules"]
    cluster = FakeCluster("hqclip", rules=rules, service_account=name)
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", cluster.url, "hqclip")))
    return cluster


def asked(cluster: FakeCluster) -> set[Right]:
    return {(verb, group, resource) for verb, group, resource, _ in cluster.used()}


@pytest.mark.usefixtures("at_once")
def test_a_launcher_may_do_what_launches_do_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with with_role("hqclip-launcher", tmp_path, monkeypatch) as cluster:
        labels = {"workflows.argoproj.io/workflow": "refine-x7", "pipeline/runid": "4f1c-22"}
        task = {"metadata": {"name": "refine-x7-task", "labels": labels}, "spec": {"containers": []}}
        cluster.add("workflows", {"metadata": {"name": "refine-x7"}})
        cluster.add("pods", {**task, "status": {"phase": "Running"}})
        monkeypatch.setenv("KFP_POD_NAME", "refine-x7-task")
        for scheduler in PLURAL:
            _launches(cluster, scheduler, str(tmp_path / scheduler), capsys)
        cluster.assert_all_faults_fired()
        assert asked(cluster) == rights(find(render("base"), "Role", "hqclip-launcher"))


def _launches(cluster: FakeCluster, scheduler: str, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One that gets no machines, one that is followed to its end and found again, one that is told to stop."""
    pods, plural = Pods(cluster, uri, scheduler), PLURAL[scheduler]
    queue = "default" if scheduler == "volcano" else "research"
    fixed = {"image": IMAGE, "nodes": 2, "cpus": "1", "queue": queue, "volumes": (f"claim:shared:{uri}",)}

    def go(**given: Any) -> Json:
        return launch(LaunchSpec(scheduler=scheduler, **fixed, **given), "train", {"store": uri, **SETTINGS})

    def wait() -> None:
        unmet = {"reason": "NotEnoughResources", "message": "16 GPUs short"}
        if scheduler == "volcano":
            cluster.podgroup(pods.name, "Pending", [{"type": "Unschedulable", "status": "True", **unmet}])
        else:
            cluster.workload(pods.name, [{"type": "QuotaReserved", "status": "False", **unmet}])

    def work() -> None:
        assert pods.job["metadata"]["ownerReferences"][0]["name"] == "refine-x7"
        cluster.log(pods.start()[0], "step 1")

    cluster.then("POST", CREATE, wait)
    with pytest.raises(UnavailableError, match="16 GPUs short"):
        go(pending_timeout_s=0.1)
    assert cluster.names(plural) == []

    cluster.then("POST", CREATE, work)
    cluster.then("GET", "/log", lambda: pods.succeed(model="m"))
    assert go()["model"] == go()["model"] == "m"
    said = capsys.readouterr().err
    assert "step 1\n" in said and "is there already (succeeded)" in said
    cluster.delete(plural, pods.name)

    cluster.then("POST", CREATE, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(TerminatedError, match="stopped, and .* with it"):
        go()
    assert cluster.names(plural) == []


def test_an_operator_may_list_read_and_cancel_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with with_role("hqclip-operator", tmp_path, monkeypatch) as cluster:
        left = {name: Jobs(cluster, name, str(tmp_path / name)) for name in PLURAL}
        waiting = [jobs.add("000001-waits", phase="pending", queue="default") for jobs in left.values()]
        running = [jobs.add("000002-runs", launch_id="run-7") for jobs in left.values()]
        cluster.podgroup(waiting[0], "Pending", [{"type": "Unschedulable", "status": "True", "message": "no podgroup"}])
        cluster.workload(waiting[1], [{"type": "QuotaReserved", "status": "False", "message": "no workload"}])
        stuck = left["volcano"].add("000003-stuck", phase="pending")
        cluster.start_pods(stuck, phase="Pending", waiting="ErrImagePull")
        assert main(["jobs", "list"]) == 0
        listed = capsys.readouterr().out
        assert all(word in listed for word in (*waiting, *running, "no podgroup", "no workload", "ErrImagePull"))
        cluster.delete("jobs", stuck)
        for pod in cluster.names("pods"):
            cluster.log(pod, "step 1")
        for name in running:
            assert main(["jobs", "logs", "--job", name]) == 0
            assert capsys.readouterr().err == "step 1\n"
        for name in waiting:
            assert main(["jobs", "cancel", "--job", name]) == 0
        assert main(["jobs", "cancel", "--of", "run-7"]) == 0
        assert cluster.names("jobs") == cluster.names("jobsets") == []
        assert asked(cluster) == rights(find(render("base"), "Role", "hqclip-operator"))


def test_the_janitor_may_judge_and_delete_and_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = find(render("base"), "CronJob")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    with with_role("hqclip-janitor", tmp_path, monkeypatch) as cluster:
        for name in PLURAL:
            jobs = Jobs(cluster, name, str(tmp_path / name))
            jobs.add("000001-orphan", workflow="refine-x7", uid="gone")
            jobs.watched(jobs.add("000002-stale"), seconds_ago=100_000)
            jobs.watched(jobs.add("000003-watched"))
        assert main(pod["containers"][0]["command"][1:]) == 0
        assert "was not judged" not in capsys.readouterr().err
        assert [len(cluster.names(plural)) for plural in PLURAL.values()] == [1, 1]
        assert asked(cluster) == rights(find(render("base"), "Role", "hqclip-janitor"))
