"""What a person says about machines: who wins, what is refused and in which words, and how patches are merged."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from hqclip import cli
from hqclip.errors import ConfigError
from hqclip.launch.config import LaunchRunConfig
from hqclip.launch.machines import read_spec
from hqclip.launch.patches import merge
from hqclip.launch.profiles import read_profiles
from hqclip.launch.resolve import make_order, plan_machines
from hqclip.launch.spec import LaunchSpec
from hqclip.stages import STAGES
from tests.fakes.gcs import FakeGcs

IMAGE = "registry.example/hqclip/train@sha256:" + "0123456789abcdef" * 4
CLUSTER = {"scheduler": "jobset", "image": IMAGE}
TRAIN = {"store": "gs://bucket/hqclip", "dataset": "datasets/0123456789abcdef/dataset.json", "run": "000001-hqclip"}
ANNOTATE = {"store": "gs://bucket/hqclip", "pool": "pools/0123456789abcdef/pool.json"}
EVALUATE = {"store": "gs://bucket/hqclip", "model": "runs/000001-hqclip/model", "suite": "suite.json"}


def refusal(flags: dict[str, Any], **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read_spec({**CLUSTER, **flags}, **more)
    assert caught.value.exit_code == 64
    return str(caught.value)


def order_refusal(flags: dict[str, Any], stage: str = "train", settings: dict[str, Any] = TRAIN) -> str:
    spec = read_spec({**CLUSTER, **flags})
    with pytest.raises(ConfigError) as caught:
        make_order(spec, stage, settings)
    return str(caught.value)


@pytest.fixture
def written(tmp_path: Path) -> Any:
    """`written(settings)`: a YAML file with them."""

    def write(settings: Any) -> str:
        path = tmp_path / "launch.yaml"
        path.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
        return str(path)

    return write


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"image": ""}, "image is missing: jobset runs the workers in containers"),
        ({"image": "my image"}, "image is 'my image'; give registry/name@sha256:... or registry/name:tag"),
        ({"profile": "gke-a3ultra"}, "unknown profile 'gke-a3ultra'; did you mean 'gke-a3-ultra'?"),
        ({"network": "gibb"}, "unknown network 'gibb'; did you mean 'gib'?; one of sockets, ib, efa, gib, tcpxo"),
        ({"network": "gib"}, "network gib needs security baseline, and security is restricted"),
        (
            {"network": "tcpxo", "security": "baseline"},
            "network tcpxo needs security network, and security is baseline",
        ),
        ({"profile": "gke-a3-mega", "security": "restricted"}, "network tcpxo needs security network"),
        ({"scheduler": "volcano", "topology": "near"}, "topology is 'near'; for volcano give the number of a tier"),
        ({"scheduler": "volcan"}, "scheduler is 'volcan': give one of local, volcano, jobset; did you mean 'volcano'?"),
        ({"nodes": 0}, "nodes is 0; give 1 or more"),
        ({"nodez": 2}, "unknown setting nodez; did you mean 'nodes'?"),
        ({"gpus": 8, "nproc": 3}, "nproc is 3, which does not divide the 8 gpus of a node"),
        ({"gpus": 4, "nproc": 8}, "nproc is 8, which does not divide the 4 gpus of a node"),
        ({"lease_stale_s": 30}, "lease_stale_s is 30; give 0 or 60 or more, the lease is renewed every 10 s"),
        ({"cpus": "4Gi"}, "cpus is '4Gi'; give a number of cores such as 8, 0.5 or 500m"),
        ({"cpus": ""}, "cpus is ''; give a number of cores such as 8, 0.5 or 500m"),
        ({"memory": "16GB"}, "memory is '16GB'; give a Kubernetes quantity such as 512Mi or 32Gi"),
        ({"memory": ""}, "memory is ''; give a Kubernetes quantity such as 512Mi or 32Gi"),
        ({"disk": "lots"}, "disk is 'lots'; give a Kubernetes quantity such as 512Mi or 32Gi"),
        ({"ttl_s": 2**31}, "ttl_s is 2147483648; give 2,147,483,647 or less"),
        ({"running_timeout_s": 2.0**31}, "running_timeout_s is 2147483648.0; give 2,147,483,647 or less"),
        ({"volumes": ["pvc:data:/data"]}, "volumes: 'pvc:data:/data' is not like claim:data:/data:ro"),
        ({"volumes": ["claim:data:data"]}, "volumes: 'claim:data:data' is not like claim:data:/data:ro"),
        ({"volumes": ["claim:a:/d/", "gcs:b:/d"]}, "volumes: /d is mounted twice"),
        ({"volumes": ["empty:a:/tmp"]}, "volumes: /tmp is mounted twice"),
        ({"env": ["PATH"]}, "env: 'PATH' is not like NAME=value"),
        ({"env": "A=1,B=1,A=2"}, "env names 'A' twice; give it once"),
        ({"env": ["A=1", "A=1"], "scheduler": "local"}, "env names 'A' twice; give it once"),
        ({"secret_env": ["A=b/c", "A=b/d"]}, "secret_env names 'A' twice"),
        ({"config_env": ["A=b/c", "A=b/d"]}, "config_env names 'A' twice"),
        ({"labels": "t=1,t=2"}, "labels names 't' twice"),
        ({"job_annotations": "t=1,t=2"}, "job_annotations names 't' twice"),
        ({"node_selector": "gpu=h100,gpu=a100"}, "node_selector names 'gpu' twice"),
        ({"devices": "rdma/ib=8,rdma/ib=4"}, "devices names 'rdma/ib' twice"),
        ({"env": ["1A=b"]}, "env: '1A=b' is not like NAME=value"),
        ({"env": ["HQCLIP_NODE=1"]}, "env: HQCLIP_NODE is set by hqclip itself"),
        ({"env": ["A=1"], "secret_env": ["A=secret/key"]}, "A is both in env and secret_env"),
        ({"secret_env": ["HF_TOKEN=hub"]}, "secret_env: 'HF_TOKEN=***' is not like HF_TOKEN=hub/token"),
        ({"secret_env": ["hf_aBcDeFgHiJkLmNoPq"]}, "secret_env: '***' is not like HF_TOKEN=hub/token"),
        ({"labels": ["team=a b"]}, "labels: 'team=a b' is not like team=vision"),
        ({"labels": ["größe=8"]}, "labels: 'größe=8' is not like team=vision"),
        ({"labels": [f"team={'x' * 64}"]}, "is not like team=vision"),
        ({"node_selector": ["gpu"]}, "node_selector: 'gpu' is not like gpu=h100"),
        ({"devices": ["gpu=1"]}, "devices: 'gpu=1' is not like rdma/ib=8"),
        ({"tolerations": ["a=b:Never"]}, "tolerations: 'a=b:Never' is not like key=value:NoSchedule"),
        ({"patches": "[{"}, "patches is not valid JSON at character 2"),
        ({"patches": "{}"}, "patches must be a list of objects with target and patch"),
        ({"patches": '[{"target": "pod"}]'}, "patches: number 1 must be an object with just target (job, pod,"),
        ({"patches": '[{"target": "node", "patch": {}}]'}, "patches: number 1 has the target 'node'; give job, pod,"),
        ({"patches": '[{"target": 7, "patch": {}}]'}, "patches: number 1 has the target 7; give job, pod,"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(flags: dict[str, Any], said: str) -> None:
    assert said in refusal(flags)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("env: {A: {B: c}, L: [1, 2]}", "launch.env.A is {'B': 'c'}; give text"),
        ("train: {labels: {since: 2026-01-01T00:00:00Z}}", "launch.labels.since is datetime.datetime("),
        ("train: {node_selector: {a: [b]}, env: {A: [b]}}", "launch.node_selector.a is ['b']; give text"),
        ("env: {A: !!binary aGk=}", "launch.env.A is b'hi'; give text"),
        (
            "patches: [{target: pod, patch: {spec: {x: 2026-01-01}}}]",
            "launch.patches: Object of type date is not JSON serializable; put what it is in quotes",
        ),
        ("patches: [{target: pod, patch: {spec: {x: .inf}}}]", "patches has Infinity in [0].patch.spec.x, which is no"),
    ],
)
def test_what_a_launch_file_nests_is_no_text(written: Any, text: str, said: str) -> None:
    assert said in refusal({}, file=written(text), stage="train")


def test_values_of_a_launch_file_are_single_ones_of_any_kind(written: Any) -> None:
    spec = read_spec(CLUSTER, file=written("env: {A: 1, B: true, C: , D: 2026-01-01, E: 0.5, F: x}\n"), stage="train")
    assert spec.env == ("A=1", "B=true", "C=", "D=2026-01-01", "E=0.5", "F=x")


def test_what_a_profile_nests_is_no_text(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HQCLIP_PROFILES", written("profiles: {mine: {about: x, node_selector: {a: {b: c}}}}"))
    assert refusal({"profile": "mine"}) == "profile mine: node_selector.a is {'b': 'c'}; give text"


def test_a_name_of_the_file_and_of_a_flag_is_not_there_twice(written: Any) -> None:
    file = written({"env": {"A": "1"}, "train": {"env": {"A": "2"}}})
    assert read_spec(CLUSTER, file=file, stage="train").env == ("A=2",)
    assert read_spec({**CLUSTER, "env": "A=3"}, file=file, stage="train").env == ("A=3",)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    flags = {"image": "", "network": "gib", "gpus": 8, "nproc": 3, "cpus": "many", "env": ["A"], "patches": "{}"}
    assert len(refusal(flags).splitlines()) == 6
    types = {"nodes": "two", "gpuz": 1, "memory": 16}
    assert [line.split()[0] for line in refusal(types).splitlines()] == ["nodes", "unknown", "memory"]


@pytest.mark.parametrize(
    "flags",
    [
        {"image": "hqclip:latest"},
        {"image": "registry.example:5000/a/b:1.2"},
        {"cpus": "500m"},
        {"cpus": "0.5"},
        {"memory": "1.5Ti"},
        {"topology": "cloud.google.com/gce-topology-block"},
        {"tolerations": ["cloud.google.com/gke-spot=true:NoExecute", "gpu"]},
        {"labels": ["example.com/team=vision", "empty="]},
        {"job_annotations": ["owner=anything, at all"]},
        {"env": ["OPTIONS=a=b c"]},
        {"lease_stale_s": 0},
        {"scheduler": "local", "image": ""},
        {"scheduler": "local", "image": "", "profile": "gke-a3-ultra"},
    ],
)
def test_what_can_be_is_taken(flags: dict[str, Any]) -> None:
    spec = read_spec({**CLUSTER, **flags})
    assert all(getattr(spec, name) == (tuple(v) if isinstance(v, list) else v) for name, v in flags.items())


@pytest.mark.parametrize(
    ("flags", "stage", "settings", "said"),
    [
        ({"nodes": 2}, "score", {**ANNOTATE, "annotations": "annotations/0"}, "nodes is 2, but score runs on one"),
        (
            {"stall_timeout_s": 9},
            "evaluate",
            EVALUATE,
            "stall_timeout_s looks at checkpoints, and evaluate",
        ),
        ({"gpus": 8, "nproc": 8}, "annotate", ANNOTATE, "nproc is 8, but annotate is no gang: give nodes, one replica"),
        ({"stall_timeout_s": 9}, "annotate", ANNOTATE, "stall_timeout_s looks at checkpoints, and annotate"),
        ({"nodes": 2, "restarts_in_place": 1}, "train", TRAIN, "restarts_in_place works for one node"),
        ({}, "trane", TRAIN, "unknown stage 'trane'; did you mean 'train'?"),
        ({}, "train", {**TRAIN, "bach_size": 8}, "unknown setting train.bach_size; did you mean 'batch_size'?"),
        ({}, "train", {**TRAIN, "store": "/data/store"}, "store '/data/store' is a folder: pods of other machines"),
        (
            {"volumes": ["secret:hub:/hub", "empty:scratch:/data", "claim:data:/data2:ro"]},
            "train",
            {**TRAIN, "store": "/data/store"},
            "mount a shared volume there with --volumes claim:NAME:/path",
        ),
    ],
)
def test_what_a_stage_cannot_do_is_refused(
    flags: dict[str, Any], stage: str, settings: dict[str, Any], said: str
) -> None:
    assert said in order_refusal(flags, stage, settings)


@pytest.mark.parametrize("store", ["gs://bucket/hqclip", "s3://bucket/hqclip"])
def test_a_bucket_is_a_store_that_all_pods_see(store: str) -> None:
    assert make_order(read_spec(CLUSTER), "train", {**TRAIN, "store": store}).job.store == store


@pytest.mark.parametrize(
    ("flags", "batch_size", "ranks", "fitting"),
    [
        ({"nodes": 3}, 64, 3, (63, 66)),
        ({"nodes": 2, "gpus": 8}, 100, 16, (96, 112)),
        ({"nodes": 2, "gpus": 8}, 10, 16, (16,)),
    ],
)
def test_a_batch_that_ranks_cannot_share_is_refused_with_those_that_they_can(
    flags: dict[str, Any], batch_size: int, ranks: int, fitting: tuple[int, ...]
) -> None:
    said = order_refusal(flags, settings={**TRAIN, "batch_size": batch_size})
    assert said == (
        f"batch_size {batch_size} does not divide into equal shares for {ranks} ranks; "
        f"give {' or '.join(str(size) for size in fitting)}"
    )
    for size in fitting:
        make_order(read_spec({**CLUSTER, **flags}), "train", {**TRAIN, "batch_size": size})


def test_a_folder_on_a_shared_volume_is_a_store() -> None:
    spec = read_spec({**CLUSTER, "volumes": ["claim:data:/data"]})
    assert make_order(spec, "train", {**TRAIN, "store": "/data/store"}).job.store == "/data/store"


def test_replicas_share_their_work_and_a_gang_has_a_rank_for_each_gpu() -> None:
    annotate = make_order(read_spec({**CLUSTER, "nodes": 3, "gpus": 1}), "annotate", ANNOTATE).job
    assert (annotate.shape, annotate.nproc, annotate.settings["claims"]) == ("replicas", 1, True)
    train = make_order(read_spec({**CLUSTER, "nodes": 2, "gpus": 8, "nproc": 4}), "train", TRAIN).job
    assert (train.shape, train.nproc, train.progress) == ("gang", 4, "runs/000001-hqclip/checkpoints/")
    evaluate = make_order(read_spec({**CLUSTER, "nodes": 2, "gpus": 8}), "evaluate", EVALUATE).job
    assert (evaluate.shape, evaluate.nproc, evaluate.progress, evaluate.no_progress_attempts) == ("gang", 8, "", 0)
    ultra = make_order(read_spec({**CLUSTER, "profile": "gke-a3-ultra"}), "train", TRAIN).job
    assert (ultra.nproc, ultra.environment_script) == (8, "/usr/local/gib/scripts/set_nccl_env.sh")


def test_flags_win_over_the_file_the_file_over_the_profile_and_that_over_defaults(written: Any) -> None:
    file = written({"profile": "gke-a2", "cpus": "80", "memory": "500Gi", "nodes": 4})
    spec = read_spec({"memory": "400Gi", **CLUSTER}, file=file)
    assert (spec.nodes, spec.memory, spec.cpus, spec.gpus, spec.queue) == (4, "400Gi", "80", 8, "")
    other = read_spec({"profile": "cpu-test", **CLUSTER}, file=file)
    assert (other.cpus, other.shm, other.gpus) == ("80", "256Mi", 0)


def test_a_section_for_a_stage_wins_over_the_common_part_for_that_stage_alone(written: Any) -> None:
    file = written({"nodes": 2, "queue": "vision", "train": {"nodes": 8, "gpus": 8}, "annotate": {"gpus": 1}})
    train, annotate, score = (read_spec(CLUSTER, file=file, stage=s) for s in ("train", "annotate", "score"))
    assert [(spec.nodes, spec.gpus) for spec in (train, annotate, score)] == [(8, 8), (2, 1), (2, 0)]
    assert train.queue == "vision"


def test_yaml_may_say_things_in_its_own_way(written: Any) -> None:
    file = written(
        """
        cpus: 2
        memory: 34359738368
        topology: 2
        spot: yes
        labels: {team: vision, tier: 1}
        node_selector: {example.com/fast: true}
        env: {DEBUG: true, LEVEL: 3, EMPTY: , NAME: "a, b"}
        tolerations: [gpu, spot=true:NoSchedule]
        patches:
          - {target: pod, patch: {spec: {priority: 7}}}
        """
    )
    spec = read_spec({**CLUSTER, "scheduler": "volcano"}, file=file)
    assert (spec.cpus, spec.memory, spec.topology, spec.spot) == ("2", "34359738368", "2", True)
    assert (spec.labels, spec.node_selector) == (("team=vision", "tier=1"), ("example.com/fast=true",))
    assert spec.env == ("DEBUG=true", "LEVEL=3", "EMPTY=", "NAME=a, b")
    assert spec.tolerations == ("gpu", "spot=true:NoSchedule")
    assert json.loads(spec.patches) == [{"target": "pod", "patch": {"spec": {"priority": 7}}}]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"nodez": 2}, "unknown nodez; did you mean 'nodes'?"),
        ({"trian": {"nodes": 2}}, "unknown trian; did you mean 'train'?"),
        ({"train": {"gpuz": 2}}, "unknown gpuz; did you mean 'gpus'?"),
        ({"train": ["nodes"]}, "the section of train is no mapping of settings"),
        ({"cpus": True}, "cpus is 'True'; give a number of cores"),
        ({"queue": 1.5}, "launch.queue must be text"),
        ("- nodes", "give settings, `name: value` a line"),
        ("nodes: [", "while parsing"),
        ("nodes: !!python/object:os.system {}", "could not determine a constructor"),
    ],
)
def test_a_file_that_says_something_else_is_refused(written: Any, settings: Any, said: str) -> None:
    assert said in refusal({}, file=written(settings), stage="train")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert f"launch spec {tmp_path}/none.yaml" in refusal({}, file=f"{tmp_path}/none.yaml")


def test_a_site_adds_its_own_hardware_and_networks(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon = {"target": "pod", "patch": {"metadata": {"annotations": {"example.com/net": "fast"}}}}
    own = {
        "profiles": {
            "dgx": {"about": "ours", "gpus": 8, "cpus": 96, "node_selector": {"gpu": "h100"}, "network": "fast"},
            "gke-a2": {"gpus": 4},
        },
        "networks": {"fast": {"security": "restricted", "patches": [daemon]}},
    }
    monkeypatch.setenv("HQCLIP_PROFILES", written(own))
    spec = read_spec({**CLUSTER, "profile": "dgx"})
    assert (spec.gpus, spec.cpus, spec.node_selector, spec.network) == (8, "96", ("gpu=h100",), "fast")
    gpus = [read_spec({**CLUSTER, "profile": name}).gpus for name in ("gke-a2", "gke-a3-mega")]
    assert gpus == [4, 8]


def test_a_site_whose_network_has_no_known_security_is_told(written: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HQCLIP_PROFILES", written({"networks": {"a": {}, "b": {"security": "none"}}}))
    assert read_spec({**CLUSTER, "network": "a"}).security == "restricted"
    assert "network b has the security 'none'; give one of restricted, baseline, network" in refusal({"network": "b"})


@pytest.mark.parametrize("text", ["profile: {}", "- a", "profiles: {"])
def test_a_site_whose_file_is_no_list_of_profiles_is_told_which(
    text: str, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(text)
    monkeypatch.setenv("HQCLIP_PROFILES", path)
    assert refusal({"profile": "cpu-test"}).startswith(f"profiles {path}: ")


@pytest.mark.parametrize("profile", read_profiles()["profiles"])
def test_every_profile_says_what_it_is_and_fits_its_network(profile: str) -> None:
    assert read_profiles()["profiles"][profile]["about"]
    spec = read_spec({**CLUSTER, "profile": profile})
    assert read_profiles()["networks"][spec.network]["about"]


@pytest.mark.parametrize("stage", STAGES)
def test_launch_and_stage_share_one_command_line(stage: str) -> None:
    ours = {field.name for field in dataclasses.fields(LaunchRunConfig)}
    theirs = {field.name for field in dataclasses.fields(STAGES[stage].settings)}
    assert ours & theirs == set()
    assert not ours & set(STAGES), "a file has settings and stages side by side"


def test_a_spec_survives_being_written_down() -> None:
    spec = read_spec({**CLUSTER, "profile": "gke-a3-mega", "env": ["A=a, b", "B="], "spot": True})
    assert LaunchSpec.from_mapping(json.loads(json.dumps(spec.to_mapping()))) == spec


named = st.fixed_dictionaries(
    {"name": st.sampled_from("ab")}, optional={"value": st.none() | st.integers(0, 3), "list": st.just([1])}
)
lists = {
    "containers": st.lists(named, max_size=2, unique_by=lambda item: item["name"]),
    "tolerations": st.lists(st.fixed_dictionaries({"key": st.sampled_from("ab")}), max_size=2),
    "args": st.lists(st.sampled_from("ab"), max_size=2),
}
objects = st.recursive(
    st.fixed_dictionaries({}, optional={"x": st.none() | st.integers(0, 3), **lists}),
    lambda inner: st.dictionaries(st.sampled_from("pqx"), st.none() | st.integers(0, 3) | inner, max_size=3),
    max_leaves=6,
)


def nulls(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return (value is None) + sum(nulls(part) for part in parts)


@given(objects, objects)
def test_a_patch_merged_twice_is_as_good_as_once_and_nothing_given_is_changed(old: Any, patch: Any) -> None:
    old = merge({}, old)  # an object of Kubernetes has no nulls
    before = copy.deepcopy((old, patch))
    once = merge(old, patch)
    assert (old, patch) == before
    assert merge(once, patch) == once
    assert merge(old, {}) == old
    assert nulls(once) == 0
    assert not {name for name, value in patch.items() if value is None} & once.keys()


def test_lists_of_named_things_are_merged_by_name_and_others_replaced() -> None:
    old = {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
        "args": ["a", "b"],
        "tolerations": [{"key": "a"}],
    }
    patch = {"env": [{"name": "B", "value": "3"}, {"name": "C"}], "args": ["c"], "tolerations": [{"key": "b"}]}
    assert merge(old, patch) == {
        "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C"}],
        "args": ["c"],
        "tolerations": [{"key": "a"}, {"key": "b"}],
    }
    assert merge(old, {"env": ["A=1"]})["env"] == ["A=1"], "which the schema then refuses"


def test_the_machines_of_all_stages_are_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        fake.put("bucket", "machines.yaml", b"retries: 1\ntrain: {nproc: 2}\nannotate: {nodes: 4}\nevaluate: {}\n")
        planned = plan_machines(
            "gs://bucket/machines.yaml", {"train": TRAIN, "annotate": ANNOTATE, "evaluate": EVALUATE}
        )
        assert list(planned) == ["annotate", "evaluate", "train"]
        assert len([request for request in fake.requests if "alt=media" in request]) == 1


def test_the_command_line_takes_flags_of_launch_and_stage_together(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    machines = tmp_path / "machines.yaml"
    machines.write_text("scheduler: jobset\nimage: a/b@sha256:12\ntrain: {nodes: 4}\n")
    words = ["--store", "gs://b/p", "--dataset", "d", "--run", "first", "--spec", str(machines)]
    assert cli.main(["launch", "render", "train", *words, "--nodes", "2"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] == 2
    assert cli.main(["launch", "run", "train", *words, "--dry-run"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["spec"]["replicatedJobs"][0]["template"]["spec"]["completions"] == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["launch", "run"], "wants a stage: one of plan, download"),
        (["launch", "run", "trian"], "unknown stage 'trian'; did you mean 'train'?"),
        (["launch", "run", "train", "--nodse", "2"], "unknown flag '--nodse'; did you mean '--nodes'?"),
        (["launch", "run", "train", "--nodes", "two"], "nodes must be a number, got 'two'"),
        (["launch", "run", "train", "--nodes", "0"], "nodes is 0; give 1 or more"),
        (["launch", "run", "train", "--store", "s"], "train.dataset is missing"),
        (["launch", "run", "train", "--profile", "gke-a3"], "unknown profile 'gke-a3'; did you mean"),
        (["launch", "walk"], "unknown command 'launch walk'; did you mean 'launch run'?"),
        (["jobs", "cancel"], "give one of job and of"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_runs(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 64
    assert said in capsys.readouterr().err
