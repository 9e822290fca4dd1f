"""What a launch asks of Kubernetes: rendered, admitted, and changed by patches; what reaches the workers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hqclip.errors import ConfigError
from hqclip.launch.kube import connect
from hqclip.launch.naming import LAUNCH_ID
from hqclip.launch.pod_security import every_container
from hqclip.launch.registry import KUBERNETES, load
from hqclip.launch.resolve import make_order
from hqclip.launch.spec import LaunchSpec
from hqclip.launch.submit import create
from tests import crd_schemas
from tests.fakes.kubernetes import FakeCluster
from tests.fakes.kubernetes_client import JOBSET, VOLCANO, Client
from tests.launching import write_kubeconfig
from tests.rendering import (
    IMAGE,
    NETWORKS,
    PROFILES,
    TRAIN,
    Json,
    env,
    indexed_job,
    rendered,
    rich,
    template,
    worker,
)

KIND = {"volcano": "Job", "jobset": "JobSet"}
WHERE = {"volcano": VOLCANO, "jobset": JOBSET}


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with FakeCluster() as cluster:
        cluster.queue("vision")
        yield Client(cluster)


def as_yaml(body: Json) -> str:
    return str(yaml.safe_dump(json.loads(json.dumps(body)), sort_keys=False, width=120))


def check(client: Client, scheduler: str, body: Json) -> None:
    """Schema, the webhooks, and what is inside as a Job and a Pod of its own."""
    assert crd_schemas.check(KIND[scheduler], body) == []
    client.create(body, WHERE[scheduler], dry_run="All")
    metadata = {"name": body["metadata"]["name"]}
    if scheduler == "jobset":
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": indexed_job(body)}
        kubernetes_validate.validate(job, "1.32", strict=True)
    inside = template(body)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {**inside["metadata"], **metadata}, "spec": inside["spec"]}
    kubernetes_validate.validate(pod, "1.32", strict=True)


@pytest.mark.parametrize("profile", PROFILES)
def test_a_gang_on_each_hardware(
    profile: str, scheduler: str, client: Client, golden: Callable[[str, str], None]
) -> None:
    body = rendered(scheduler, profile=profile)
    check(client, scheduler, body)
    golden(f"launch/{profile}-{scheduler}.yaml", as_yaml(body))


def test_replicas(scheduler: str, client: Client, golden: Callable[[str, str], None]) -> None:
    body = rendered(scheduler, "annotate", nodes=4, gpus=1)
    check(client, scheduler, body)
    golden(f"launch/replicas-{scheduler}.yaml", as_yaml(body))


def test_all_that_can_be_asked_for(scheduler: str, client: Client, golden: Callable[[str, str], None]) -> None:
    body = rich(scheduler)
    check(client, scheduler, body)
    golden(f"launch/rich-{scheduler}.yaml", as_yaml(body))


@pytest.mark.parametrize("network", NETWORKS)
def test_each_network_is_admitted(network: str, scheduler: str, client: Client) -> None:
    check(client, scheduler, rendered(scheduler, network=network, security="network"))


def test_a_misspelt_key_of_a_patch_is_refused_by_the_server_and_named(
    scheduler: str, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches = json.dumps([{"target": "pod", "patch": {"spec": {"tolerationz": [{"key": "a"}]}}}])
    body = rendered(scheduler, patches=patches)
    (problem,) = crd_schemas.check(KIND[scheduler], body)
    assert "tolerationz" in problem
    assert "tolerationz" not in str(client.create(body, WHERE[scheduler], dry_run="All")), "of others it is dropped"
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "kubeconfig", client.url)))
    for dry_run in (True, False):
        with pytest.raises(ConfigError, match=r'unknown field ".*spec\.tolerationz"'):
            create(connect(), load(scheduler), body, dry_run=dry_run)


def test_a_patch_for_a_container_that_is_not_there_is_refused(scheduler: str) -> None:
    patches = json.dumps([{"target": "container:workr", "patch": {"tty": True}}])
    with pytest.raises(ConfigError, match="there is no container 'workr'; the pods have worker"):
        rendered(scheduler, patches=patches)


def test_a_patch_reaches_a_container_that_the_network_brought(scheduler: str) -> None:
    patches = json.dumps([{"target": "container:tcpxo-daemon", "patch": {"image": "registry.example/daemon:2"}}])
    body = rendered(scheduler, profile="gke-a3-mega", patches=patches)
    images = {container["name"]: container["image"] for _, container in every_container(template(body))}
    assert (images["tcpxo-daemon"], images["worker"]) == ("registry.example/daemon:2", IMAGE)


MAX_ARG_STRLEN = 128 * 1024  # of Linux: bytes of one variable of the environment, with its name


def test_the_environment_of_many_nodes_stays_under_its_limit(scheduler: str) -> None:
    body = rendered(scheduler, settings={**TRAIN, "batch_size": 8000}, nodes=2000)
    longest = max(len(f"{name}={value}") for name, value in env(body).items())
    if scheduler == "volcano" and "svc" in body["spec"]["plugins"]:  # which no argument of 1.15 keeps from it
        name = body["metadata"]["name"]
        longest = max(longest, len("VC_NODE_HOSTS=" + ",".join(f"{name}-node-{n}.{name}" for n in range(2000))))
    assert longest < MAX_ARG_STRLEN


def test_ranks_meet_at_the_first_pod_and_know_their_number(scheduler: str) -> None:
    with FakeCluster() as cluster:
        body = rendered(scheduler, rendezvous_port=29600)
        name = Client(cluster).create(body, WHERE[scheduler])["metadata"]["name"]
        first, second = cluster.start_pods(name, attempt=3)
        host = first.rpartition("-")[0]  # JobSet's hosts lack the random end; Volcano's have no names
        where = {"jobset": f"{host}.{name}:29600", "volcano": ":29600"}[scheduler]
        assert env(body)["HQCLIP_RENDEZVOUS"] == where
        fields = {
            item["name"]: item["valueFrom"]["fieldRef"]["fieldPath"]
            for item in worker(body)["env"]
            if "fieldRef" in item.get("valueFrom", {})
        }
        said = cluster.get("pods", second)["metadata"]["annotations"]
        known = {name: said[path.split("'")[1]] for name, path in fields.items() if "annotations" in path}
        assert known == {"HQCLIP_NODE": "1", "HQCLIP_ATTEMPT": "3"}
        assert (fields["HQCLIP_POD"], fields["HQCLIP_POD_IP"]) == ("metadata.name", "status.podIP")
    assert "HQCLIP_RENDEZVOUS" not in env(rendered(scheduler, "annotate"))


def expanded(text: str, variables: dict[str, str]) -> str:
    """As the kubelet expands it: `$$` is `$`, `$(NAME)` the variable if there is one."""
    found = re.sub(r"\$\$|\$\((.*?)\)", lambda m: "$" if m[0] == "$$" else variables.get(m[1], m[0]), text)
    return str(found)


@given(st.text("$()A ", max_size=8))
def test_values_reach_the_workers_as_they_were_written(text: str) -> None:
    spec = LaunchSpec(scheduler="volcano", image=IMAGE, env=(f"TEXT={text}",))
    body = make_order(spec, "train", {**TRAIN, "store": f"gs://bucket/{text}."}).body
    assert expanded(env(body)["TEXT"], {"A": "wrong"}) == text
    assert expanded(worker(body)["args"][0], {"A": "wrong"}) == f"gs://bucket/{text}."


def test_a_variable_is_set_once_and_secrets_win(scheduler: str) -> None:
    flags = {
        "env": ["NCCL_DEBUG=INFO", "HOME=/data", "EMPTY="],
        "secret_env": ["TORCH_NCCL_DUMP_ON_TIMEOUT=notes/dump"],
    }
    body = rendered(scheduler, **flags)
    names = [item["name"] for item in worker(body)["env"]]
    assert len(names) == len(set(names))
    assert (env(body)["NCCL_DEBUG"], env(body)["HOME"], env(body)["EMPTY"]) == ("INFO", "/data", "")
    assert "TORCH_NCCL_DUMP_ON_TIMEOUT" not in env(body)


def test_what_is_given_of_labels_never_hides_what_jobs_are_found_by(scheduler: str) -> None:
    body = rendered(scheduler, labels=["app.kubernetes.io/name=mine", "team=vision"], launch_id="Run 4f1c/β")
    for labels in (body["metadata"]["labels"], template(body)["metadata"]["labels"]):
        assert (labels["app.kubernetes.io/name"], labels["team"], labels[LAUNCH_ID]) == ("hqclip", "vision", "run-4f1c")


def test_kueue_is_asked_where_there_is_a_queue() -> None:
    with_queue, without = rendered("jobset", queue="vision"), rendered("jobset")
    assert with_queue["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "vision" and with_queue["spec"]["suspend"]
    assert "kueue.x-k8s.io/queue-name" not in without["metadata"]["labels"] and "suspend" not in without["spec"]


def test_pods_are_kept_close_as_each_scheduler_wants_to_hear_it() -> None:
    near = rendered("volcano", topology="2")["spec"]["networkTopology"]
    assert near == {"mode": "soft", "highestTierAllowed": 2}
    block = "cloud.google.com/gce-topology-block"
    notes = template(rendered("jobset", topology=block, topology_mode="required"))["metadata"]["annotations"]
    assert notes["kueue.x-k8s.io/podset-required-topology"] == block
