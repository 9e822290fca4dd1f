"""Pods keep the security level that their profile says, get what they ask for, and no token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hqclip import cli
from hqclip.errors import ConfigError
from hqclip.launch.pod_security import against_baseline, against_restricted, every_container
from hqclip.launch.registry import KUBERNETES
from tests.rendering import NETWORKS, PROFILES, TRAIN, Json, rendered, rich, template


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def strictest(pod: Json) -> str:
    """In hqclip's words: `network` keeps neither."""
    return "network" if against_baseline(pod) else "baseline" if against_restricted(pod) else "restricted"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_pods_of_a_profile_keep_the_security_level_it_says(profile: str, scheduler: str) -> None:
    body = rendered(scheduler, profile=profile)
    assert strictest(template(body)) == PROFILES[profile].get("security", "restricted")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_asks_for_the_strictest_level_that_lets_it_work(network: str, scheduler: str) -> None:
    body = rendered(scheduler, network=network, security="network")
    assert strictest(template(body)) == NETWORKS[network]["security"]


def test_volumes_secrets_and_devices_keep_the_strictest_level(scheduler: str) -> None:
    assert against_restricted(template(rich(scheduler))) == []


def test_the_networks_of_gke_break_just_these_rules(scheduler: str) -> None:
    gib, tcpxo = (template(rendered(scheduler, profile=name)) for name in ("gke-a3-ultra", "gke-a3-mega"))
    assert set(against_restricted(gib)) == {"runAsNonRoot", "runAsUser", "drop ALL"}
    assert set(against_baseline(tcpxo)) == {"hostPath", "capability NET_ADMIN"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_gets_what_it_asks_for_and_no_token(profile: str, scheduler: str) -> None:
    pod = template(rendered(scheduler, profile=profile, secret_env=["HF_TOKEN=hub/token"]))
    for container in every_container(pod):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_a_capability_is_of_use_to_the_user_who_has_it(scheduler: str) -> None:
    """Kubernetes gives added capabilities to root alone: others lose them when their program starts."""
    for network in NETWORKS:
        pod = template(rendered(scheduler, network=network, security="network"))
        for container in every_container(pod):
            security = {**pod["spec"]["securityContext"], **container.get("securityContext", {})}
            assert not security.get("capabilities", {}).get("add") or security["runAsUser"] == 0


PRIVILEGED = {"securityContext": {"privileged": True}}
ALL_RIGHTS = {"target": "container", "patch": PRIVILEGED}
FORBIDDEN = [
    ("pod", {"spec": {"hostNetwork": True}}, "hostNetwork"),
    ("pod", {"spec": {"hostPID": True, "hostIPC": True}}, "hostIPC, hostPID"),
    ("pod", {"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}}, "hostPath, volume hostPath"),
    ("pod", {"spec": {"securityContext": {"runAsNonRoot": None}}}, "runAsNonRoot"),
    ("pod", {"spec": {"securityContext": {"sysctls": [{"name": "kernel.shm_rmid_forced", "value": "1"}]}}}, "sysctls"),
    ("pod", {"spec": {"initContainers": [{"name": "open", "image": "i", **PRIVILEGED}]}}, "privileged"),
    ("container", PRIVILEGED, "privileged"),
    ("container", {"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, "add, capability SYS_ADMIN"),
    ("container", {"securityContext": {"allowPrivilegeEscalation": True}}, "allowPrivilegeEscalation"),
    ("container", {"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, "seccomp"),
    ("container", {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}, "runAsNonRoot, runAsUser"),
    ("container", {"ports": [{"containerPort": 80, "hostPort": 80}]}, "hostPort"),
    ("container:worker", PRIVILEGED, "privileged"),
]


@pytest.mark.parametrize(("target", "patch", "rules"), FORBIDDEN)
def test_a_patch_brings_nothing_back_that_the_level_forbids(
    target: str, patch: Json, rules: str, scheduler: str
) -> None:
    patches = json.dumps([{"target": target, "patch": patch}])
    with pytest.raises(ConfigError, match=r"the pods break security restricted \(.*\); leave that out") as refusal:
        rendered(scheduler, patches=patches)
    assert all(rule in str(refusal.value) for rule in rules.split(", "))
    assert strictest(template(rendered(scheduler, patches=patches, security="privileged"))) != "restricted"


def test_a_patch_of_the_job_reaches_into_the_pods_and_is_held_to_the_level_too(scheduler: str) -> None:
    pods = template(rendered(scheduler))
    pods["spec"]["hostNetwork"] = True
    in_job: dict[str, Any] = {
        "volcano": {"spec": {"tasks": [{"name": "node", "template": pods}]}},
        "jobset": {"spec": {"replicatedJobs": [{"name": "w", "template": {"spec": {"template": pods}}}]}},
    }
    with pytest.raises(ConfigError, match="hostNetwork"):
        rendered(scheduler, patches=json.dumps([{"target": "job", "patch": in_job[scheduler]}]))


def test_baseline_lets_a_patch_be_root_and_no_more(scheduler: str) -> None:
    root = {"target": "container", "patch": {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}}
    rendered(scheduler, patches=json.dumps([root]), security="baseline")
    with pytest.raises(ConfigError, match=r"break security baseline \(privileged\)"):
        rendered(scheduler, patches=json.dumps([root, ALL_RIGHTS]), security="baseline")


def test_a_network_is_allowed_what_it_asks_for_and_patches_no_more(scheduler: str) -> None:
    body = rendered(scheduler, network="tcpxo", security="network")
    assert "hostPath" in against_baseline(template(body))
    for network in ("tcpxo", "sockets"):
        with pytest.raises(ConfigError, match=r"break security network \(privileged\)"):
            rendered(scheduler, network=network, security="network", patches=json.dumps([ALL_RIGHTS]))


@pytest.mark.parametrize(
    "env",
    [
        *("HF_TOKEN=abc", "AWS_SECRET_ACCESS_KEY=x1", "OPENAI_API_KEY=k", "db_password=p", "WANDB_APIKEY=w"),
        *("ANY=hf_aBcDeFgHiJkLmNoPq", "ANY=AKIAIOSFODNN7EXAMPLE", "ANY=-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_what_looks_like_a_secret_is_not_written_into_a_job(env: str, scheduler: str) -> None:
    name = env.partition("=")[0]
    with pytest.raises(ConfigError, match=f"env: {name} looks like a secret.*give secret_env {name}=SECRET/KEY"):
        rendered(scheduler, env=[env])


def test_what_only_sounds_like_a_secret_is_let_through(scheduler: str) -> None:
    harmless = [
        *("TOKENIZERS_PARALLELISM=false", "MAX_TOKENS=7", "GOOGLE_APPLICATION_CREDENTIALS=/key/key.json"),
        *("HF_HUB_DISABLE_IMPLICIT_TOKEN=1", "KEY=value", "SSH_KEY_PATH=/x", "HF_TOKEN="),
    ]
    names = [item["name"] for item in template(rendered(scheduler, env=harmless))["spec"]["containers"][0]["env"]]
    assert {item.partition("=")[0] for item in harmless} <= set(names)


def test_an_image_that_a_tag_names_is_told_once_to_whoever_launches(
    scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["launch", "render", "train", "--scheduler", scheduler]
    words += [f"--{name}={value}" for name, value in TRAIN.items()]
    assert cli.main([*words, "--image", "r.example/hqclip/train:1"]) == 0
    assert capsys.readouterr().err.count("image r.example/hqclip/train:1 has no digest") == 1
    assert cli.main([*words, "--image", f"r.example/hqclip/train@sha256:{'0' * 64}"]) == 0
    assert capsys.readouterr().err == ""
