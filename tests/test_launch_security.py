"""Pods keep the security level that their profile says, get what they ask for, and no token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.errors import ConfigError
from hqclip.launch.pod_secrets import secrets_in
from hqclip.launch.pod_security import against_baseline, against_restricted, every_container
from hqclip.launch.registry import KUBERNETES
from hqclip.launch.resolve import warn_of_tags
from tests.rendering import IMAGE, NETWORKS, PROFILES, TRAIN, Json, order, rendered, rich, template


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
    installer = "init container nccl-plugin-installer"
    assert set(against_restricted(gib)) == {
        *(f"{installer}: runAsNonRoot=false", f"{installer}: runAsUser=0"),
        f"{installer}: capabilities.drop has no ALL",
    }
    assert set(against_baseline(tcpxo)) == {
        'init container tcpxo-daemon: capabilities.add="NET_ADMIN"',
        'volume libraries: hostPath={"path": "/home/kubernetes/bin/nvidia"}',
        'volume sys: hostPath={"path": "/sys"}',
        'volume proc-sys: hostPath={"path": "/proc/sys"}',
        'volume aperture-devices: hostPath={"path": "/dev/aperture_devices"}',
    }


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_gets_what_it_asks_for_and_no_token(profile: str, scheduler: str) -> None:
    pod = template(rendered(scheduler, profile=profile, secret_env=["HF_TOKEN=hub/token"]))
    for _, container in every_container(pod):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_a_capability_is_of_use_to_the_user_who_has_it(scheduler: str) -> None:
    """Kubernetes gives added capabilities to root alone: others lose them when their program starts."""
    for network in NETWORKS:
        pod = template(rendered(scheduler, network=network, security="network"))
        for _, container in every_container(pod):
            security = {**pod["spec"]["securityContext"], **container.get("securityContext", {})}
            assert not security.get("capabilities", {}).get("add") or security["runAsUser"] == 0


PRIVILEGED = {"securityContext": {"privileged": True}}
ALL_RIGHTS = {"target": "container", "patch": PRIVILEGED}
NODE_DISK = {"target": "pod", "patch": {"spec": {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}}}
# target, patch, what is told of it, and the level that allows it
FORBIDDEN: list[tuple[str, Json, str, str]] = [
    ("pod", {"spec": {"hostNetwork": True}}, "pod: hostNetwork=true", "privileged"),
    ("pod", NODE_DISK["patch"], 'volume root: hostPath={"path": "/"}', "privileged"),
    ("pod", {"spec": {"volumes": [{"name": "share", "nfs": {}}]}}, "volume share: nfs", "baseline"),
    (
        "pod",
        {"spec": {"initContainers": [{"name": "open", "image": "i", **PRIVILEGED}]}},
        "init container open: privileged=true",
        "privileged",
    ),
    (
        "pod",
        {"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}},
        'pod: sysctls="kernel.msgmax"',
        "privileged",
    ),
    (
        "pod",
        {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/worker": "unconfined"}}},
        'pod: annotation container.apparmor.security.beta.kubernetes.io/worker="unconfined"',
        "privileged",
    ),
    *(
        ("pod", {"spec": {"securityContext": asked}}, what, level)
        for asked, what, level in [
            ({"runAsNonRoot": None}, "container worker: runAsNonRoot is not true", "baseline"),
            ({"runAsNonRoot": False}, "pod: runAsNonRoot=false", "baseline"),
            ({"runAsUser": 0}, "pod: runAsUser=0", "baseline"),
            ({"seccompProfile": {"type": "Unconfined"}}, 'pod: seccompProfile.type="Unconfined"', "privileged"),
            ({"seLinuxOptions": {"role": "system_r"}}, 'pod: seLinuxOptions.role="system_r"', "privileged"),
            ({"windowsOptions": {"hostProcess": True}}, "pod: windowsOptions.hostProcess=true", "privileged"),
        ]
    ),
    *(
        ("container", {"securityContext": asked}, f"container worker: {what}", level)
        for asked, what, level in [
            ({"privileged": True}, "privileged=true", "privileged"),
            ({"capabilities": {"add": ["SYS_ADMIN"]}}, 'capabilities.add="SYS_ADMIN"', "privileged"),
            ({"capabilities": {"add": ["CHOWN"]}}, 'capabilities.add="CHOWN"', "baseline"),
            ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation is not false", "baseline"),
            ({"seccompProfile": {"type": "Unconfined"}}, 'seccompProfile.type="Unconfined"', "privileged"),
            ({"seLinuxOptions": {"type": "spc_t"}}, 'seLinuxOptions.type="spc_t"', "privileged"),
            ({"runAsUser": 0}, "runAsUser=0", "baseline"),
        ]
    ),
    (
        "container",
        {"ports": [{"containerPort": 80, "hostPort": 80}]},
        "container worker: hostPort=80",
        "privileged",
    ),
    (
        "container",
        {"livenessProbe": {"httpGet": {"host": "169.254.169.254", "path": "/", "port": 80}}},
        'container worker: livenessProbe.httpGet.host="169.254.169.254"',
        "privileged",
    ),
    ("container:worker", PRIVILEGED, "container worker: privileged=true", "privileged"),
]


@pytest.mark.parametrize(("target", "patch", "what", "level"), FORBIDDEN)
def test_a_patch_brings_nothing_back_that_the_level_forbids(
    target: str, patch: Json, what: str, level: str, scheduler: str
) -> None:
    patches = json.dumps([{"target": target, "patch": patch}])
    told = f"patches: {what}, which security restricted forbids; leave it out, or give --security {level}"
    with pytest.raises(ConfigError) as refusal:
        rendered(scheduler, patches=patches)
    assert told in str(refusal.value).splitlines()
    assert strictest(template(rendered(scheduler, patches=patches, security=level))) != "restricted"


def test_all_that_is_wrong_is_told_at_once_each_with_what_allows_it(scheduler: str) -> None:
    patches = [ALL_RIGHTS, {"target": "container", "patch": {"securityContext": {"runAsUser": 0}}}]
    with pytest.raises(ConfigError) as refusal:
        rendered(scheduler, patches=json.dumps(patches))
    assert str(refusal.value).splitlines() == [
        "patches: container worker: privileged=true, which security restricted forbids; leave it out, or give "
        "--security privileged",
        "patches: container worker: runAsUser=0, which security restricted forbids; leave it out, or give "
        "--security baseline",
    ]


@pytest.mark.parametrize("security", ["restricted", "baseline", "network"])
@pytest.mark.parametrize(
    ("target", "patch"),
    [
        ("container", {"securityContext": ["privileged"]}),
        ("container", {"securityContext": {"capabilities": "ALL"}}),
        ("container", {"livenessProbe": "http://elsewhere"}),
        ("pod", {"spec": {"volumes": "/"}}),
        ("pod", {"spec": {"volumes": [{"hostPath": {"path": "/"}}]}}),
        ("pod", {"spec": {"ephemeralContainers": [{"image": "i"}]}}),
    ],
)
def test_a_patch_that_leaves_no_pods_is_refused(target: str, patch: Json, security: str, scheduler: str) -> None:
    patches = json.dumps([{"target": target, "patch": patch}])
    with pytest.raises(ConfigError, match=r"with its patches (these are no pods|this is no \w+ object) any more"):
        rendered(scheduler, patches=patches, security=security)


def in_the_job(scheduler: str, pods: Json) -> str:
    """Patches of the job that put these pods into it."""
    job: dict[str, Any] = {
        "volcano": {"spec": {"tasks": [{"name": "node", "template": pods}]}},
        "jobset": {"spec": {"replicatedJobs": [{"name": "w", "template": {"spec": {"template": pods}}}]}},
    }
    return json.dumps([{"target": "job", "patch": job[scheduler]}])


def test_a_patch_of_the_job_reaches_into_the_pods_and_is_held_to_the_level_too(scheduler: str) -> None:
    pods = template(rendered(scheduler))
    pods["spec"]["hostNetwork"] = True
    with pytest.raises(ConfigError, match="hostNetwork"):
        rendered(scheduler, patches=in_the_job(scheduler, pods))
    pods["spec"]["containers"] = {"worker": PRIVILEGED}
    with pytest.raises(ConfigError, match="these are no pods any more"):
        rendered(scheduler, patches=in_the_job(scheduler, pods))


def test_baseline_lets_a_patch_be_root_and_no_more(scheduler: str) -> None:
    root = {"target": "container", "patch": {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}}}
    rendered(scheduler, patches=json.dumps([root]), security="baseline")
    with pytest.raises(ConfigError) as refusal:
        rendered(scheduler, patches=json.dumps([root, ALL_RIGHTS]), security="baseline")
    (told,) = str(refusal.value).splitlines()
    assert "container worker: privileged=true, which security baseline forbids" in told


# a network that needs the level `network`, a patch, and what of it is more than the network's own
MORE_THAN_ASKED_FOR: list[tuple[str, str, Json, list[str]]] = [
    ("tcpxo", "container", PRIVILEGED, ["container worker: privileged=true"]),
    ("tcpxo", "pod", NODE_DISK["patch"], ['volume root: hostPath={"path": "/"}']),
    (
        "tcpxo",
        "pod",
        {"spec": {"volumes": [{"name": "sys", "hostPath": {"path": "/"}}]}},
        ['volume sys: hostPath={"path": "/"}'],
    ),
    (
        "tcpxo",
        "container",
        {"volumeMounts": [{"name": "sys", "mountPath": "/host"}]},
        [
            "container worker: reads the hostPath of volume sys",
            "container worker: writes to the hostPath of volume sys",
        ],
    ),
    (
        "tcpxo",
        "container",
        {"volumeMounts": [{"name": "sys", "mountPath": "/host", "readOnly": True}]},
        ["container worker: reads the hostPath of volume sys"],
    ),
    (
        "tcpxo",
        "container",
        {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
        ['container worker: capabilities.add="NET_ADMIN"'],
    ),
    (
        "tcpxo",
        "container:nccl-plugin-installer",
        {"securityContext": {"capabilities": {"add": ["NET_ADMIN"]}}},
        ['init container nccl-plugin-installer: capabilities.add="NET_ADMIN"'],
    ),
    (
        "tcpxo",
        "container:tcpxo-daemon",
        {"securityContext": {"capabilities": {"add": ["NET_ADMIN", "SYS_ADMIN"]}}},
        ['init container tcpxo-daemon: capabilities.add="SYS_ADMIN"'],
    ),
    ("tcpxo", "container", {"securityContext": {"runAsUser": 0}}, ["container worker: runAsUser=0"]),
    ("tcpxo", "pod", {"spec": {"securityContext": {"runAsUser": 0}}}, ["pod: runAsUser=0"]),
    (
        "tcpxo",
        "pod",
        {"spec": {"securityContext": {"runAsNonRoot": False}}},
        ["pod: runAsNonRoot=false", "container worker: runAsNonRoot is not true"],
    ),
    (
        "tcpxo",
        "container",
        {"securityContext": {"capabilities": {"drop": []}, "allowPrivilegeEscalation": True}},
        [
            "container worker: allowPrivilegeEscalation is not false",
            "container worker: capabilities.drop has no ALL",
        ],
    ),
    (
        "ib",
        "container",
        {"securityContext": {"capabilities": {"add": ["IPC_LOCK", "SYS_PTRACE"]}}},
        ['container worker: capabilities.add="SYS_PTRACE"'],
    ),
    (
        "ib",
        "pod",
        {"spec": {"initContainers": [{"name": "more", "image": "i", "securityContext": {"runAsUser": 0}}]}},
        [
            "init container more: runAsUser=0",
            "init container more: allowPrivilegeEscalation is not false",
            "init container more: capabilities.drop has no ALL",
        ],
    ),
]


@pytest.mark.parametrize(("network", "target", "patch", "more"), MORE_THAN_ASKED_FOR)
def test_a_network_is_allowed_what_it_asks_for_and_patches_no_more(
    network: str, target: str, patch: Json, more: list[str], scheduler: str
) -> None:
    rendered(scheduler, network=network, security="network")
    patches = json.dumps([{"target": target, "patch": patch}])
    with pytest.raises(ConfigError) as refusal:
        rendered(scheduler, network=network, security="network", patches=patches)
    assert str(refusal.value).splitlines() == [
        f"patches: {what}, which security network forbids, as network {network} does not ask for it; leave it out, or "
        "give --security privileged"
        for what in more
    ]
    rendered(scheduler, network=network, security="privileged", patches=patches)


def test_a_network_that_asks_for_nothing_is_allowed_nothing(scheduler: str) -> None:
    for patch, enough in ((PRIVILEGED, "privileged"), ({"securityContext": {"runAsUser": 0}}, "baseline")):
        patches = json.dumps([{"target": "container", "patch": patch}])
        with pytest.raises(ConfigError, match=f"as network sockets does not ask for it; .* --security {enough}$"):
            rendered(scheduler, network="sockets", security="network", patches=patches)


@pytest.mark.parametrize(
    ("target", "patch"),
    [
        ("container:tcpxo-daemon", {"image": "registry.example/mirror/daemon:2"}),
        ("container:tcpxo-daemon", {"resources": {"limits": {"cpu": "4"}, "requests": {"cpu": "4"}}}),
        ("container:tcpxo-daemon", {"volumeMounts": [{"mountPath": "/hostsysfs", "readOnly": True}]}),
        ("container:tcpxo-daemon", {"securityContext": {"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}}),
        ("container", {"volumeMounts": [{"name": "nccl-plugin", "mountPath": "/also-here"}]}),
        ("pod", {"spec": {"volumes": [{"name": "aperture-devices", "hostPath": None, "emptyDir": {}}]}}),
        ("pod", {"spec": {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}}),
    ],
)
def test_beside_what_a_network_asks_for_patches_change_what_they_like(target: str, patch: Json, scheduler: str) -> None:
    rendered(scheduler, profile="gke-a3-mega", patches=json.dumps([{"target": target, "patch": patch}]))


@pytest.mark.parametrize("security", ["restricted", "baseline", "network"])
def test_annotations_are_held_to_the_level_too(security: str, scheduler: str) -> None:
    name = "container.apparmor.security.beta.kubernetes.io/worker"
    told = f'job_annotations: pod: annotation {name}="unconfined", which security {security} forbids'
    for network in ("sockets", "tcpxo") if security == "network" else ("sockets",):
        with pytest.raises(ConfigError, match=f"^{told}.* --security privileged$"):
            rendered(scheduler, network=network, security=security, job_annotations=[f"{name}=unconfined"])
    rendered(scheduler, security=security, job_annotations=[f"{name}=runtime/default"])


def test_a_network_of_ones_own_that_says_too_little_is_named(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"networks": {"own": {"about": "it reads the disk of the node", "patches": [NODE_DISK]}}}
    (tmp_path / "profiles.yaml").write_text(json.dumps(own))
    monkeypatch.setenv("HQCLIP_PROFILES", str(tmp_path / "profiles.yaml"))
    told = (
        'network own: volume root: hostPath=\\{"path": "/"\\}, which security baseline forbids; .* --security network'
    )
    with pytest.raises(ConfigError, match=f"^{told}$"):
        rendered(scheduler, network="own", security="baseline")
    rendered(scheduler, network="own", security="network")


@pytest.mark.parametrize(
    "env",
    [
        *("HF_TOKEN=abc", "AWS_SECRET_ACCESS_KEY=x1", "OPENAI_API_KEY=k", "db_password=p", "WANDB_APIKEY=w"),
        *("ANY=hf_aBcDeFgHiJkLmNoPq", "ANY=AKIAIOSFODNN7EXAMPLE", "ANY=-----BEGIN RSA PRIVATE KEY-----"),
        *("HTTPS_PROXY=http://me:hunter2@proxy:3128", "ANY=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc"),
        *("DB_PASSWORD=1234", "HQCLIP_NOTIFY_WEBHOOK_URL=https://relay/x", "HQCLIP_NOTIFY_SLACK_URL=http://a"),
    ],
)
def test_what_looks_like_a_secret_is_not_written_into_a_job(env: str, scheduler: str) -> None:
    name, _, value = env.partition("=")
    with pytest.raises(
        ConfigError, match=f"env: {name} looks like a secret.*give secret_env {name}=SECRET/KEY$"
    ) as told:
        rendered(scheduler, env=[env])
    assert len(value) < 3 or value not in str(told.value)


def test_what_only_sounds_like_a_secret_is_let_through(scheduler: str) -> None:
    harmless = [
        *("TOKENIZERS_PARALLELISM=false", "MAX_TOKENS=7", "GOOGLE_APPLICATION_CREDENTIALS=/key/key.json"),
        *("HF_HUB_DISABLE_IMPLICIT_TOKEN=1", "KEY=value", "SSH_KEY_PATH=/x", "HF_TOKEN=", "OPENAI_API_KEY=EMPTY"),
        *("HTTPS_PROXY=http://proxy:3128", "HQCLIP_NOTIFY_SMTP_HOST=mail", "HQCLIP_NOTIFY_SLACK_URL="),
    ]
    names = [item["name"] for item in template(rendered(scheduler, env=harmless))["spec"]["containers"][0]["env"]]
    assert {item.partition("=")[0] for item in harmless} <= set(names)


@pytest.mark.parametrize("setting", ["labels", "job_annotations"])
@pytest.mark.parametrize("item", ["token=abc", "example.com/api-token=s3cret", "note=hf_aBcDeFgHiJkLmNoPq"])
def test_no_secret_is_a_label_or_an_annotation(setting: str, item: str, scheduler: str) -> None:
    name, _, value = item.partition("=")
    with pytest.raises(ConfigError, match=f"{setting}: {name} looks like a secret.*secret_env NAME=SECRET/KEY") as told:
        rendered(scheduler, **{setting: [item]})
    assert value not in str(told.value)


KEY = "hf_aBcDeFgHiJkLmNoPq"
RESTRICTED = {"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}
PROBE = {"httpGet": {"path": "/", "port": 80, "httpHeaders": [{"name": "Authorization", "value": f"Bearer {KEY}"}]}}
SIDECAR = {"name": "side", "image": IMAGE, **RESTRICTED, "env": [{"name": "PGPASSWORD", "value": KEY}]}


@pytest.mark.parametrize(
    ("target", "patch", "where"),
    [
        ("container", {"env": [{"name": "HF_TOKEN", "value": KEY}]}, "container worker: env HF_TOKEN"),
        ("pod", {"spec": {"initContainers": [SIDECAR]}}, "init container side: env PGPASSWORD"),
        ("pod", {"spec": {"containers": [SIDECAR]}}, "container side: env PGPASSWORD"),
        ("container", {"command": ["run", f"--token={KEY}"]}, "container worker: command --token"),
        ("container", {"args": ["--password", KEY]}, "container worker: args --password"),
        ("container", {"args": ["sh", "-c", f"DB_PASSWORD={KEY}; run"]}, "container worker: args DB_PASSWORD"),
        ("container", {"args": [f"http://me:{KEY}@host/x"]}, "container worker: args"),
        ("container", {"livenessProbe": PROBE}, "container worker: livenessProbe.httpGet.httpHeaders.0 Authorization"),
        ("pod", {"metadata": {"annotations": {"token": KEY}}}, "pod: annotation token"),
        ("job", {"metadata": {"annotations": {"note": f"by {KEY}"}}}, "job: annotation note"),
        ("job", {"metadata": {"labels": {"token": KEY}}}, "job: label token"),
    ],
)
def test_patches_bring_no_secret_into_any_part_of_a_job(target: str, patch: Json, where: str, scheduler: str) -> None:
    patches = json.dumps([{"target": target, "patch": patch}])
    with pytest.raises(ConfigError) as told:
        rendered(scheduler, patches=patches)
    assert str(told.value).startswith(f"patches: {where} looks like a secret, and who may read jobs reads it; ")
    assert "secret_env" in str(told.value)
    assert KEY not in str(told.value)


def test_a_network_of_ones_own_brings_no_secret(
    scheduler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch = {"target": "container", "patch": {"env": [{"name": "HF_TOKEN", "value": KEY}]}}
    own = {"networks": {"own": {"about": "it has a key", "patches": [patch]}}}
    (tmp_path / "profiles.yaml").write_text(json.dumps(own))
    monkeypatch.setenv("HQCLIP_PROFILES", str(tmp_path / "profiles.yaml"))
    with pytest.raises(ConfigError, match="^network own: container worker: env HF_TOKEN looks like a secret"):
        rendered(scheduler, network="own")


def test_patches_may_name_secrets_and_refer_to_them(scheduler: str) -> None:
    reference = {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}}
    address = {"name": "DATABASE_URL", "value": "postgres://me:$(PW)@db/x"}
    script = 'export TOKEN=$(cat /run/token); curl -H "Authorization: Bearer $TOKEN" --password-stdin'
    side = {**SIDECAR, "env": [reference, address], "command": ["sh", "-c", script], "args": ["--api-key", "EMPTY"]}
    annotations = {"example.com/auth-secret": "basic-auth", "example.com/inject-token": "true"}
    patch = {"metadata": {"annotations": annotations}, "spec": {"initContainers": [side]}}
    rendered(scheduler, patches=json.dumps([{"target": "pod", "patch": patch}]))


@pytest.mark.parametrize("network", NETWORKS)
def test_nothing_of_ours_looks_like_a_secret(network: str, scheduler: str) -> None:
    assert secrets_in(rendered(scheduler, network=network, security="network")) == []
    assert secrets_in(rich(scheduler)) == []


def test_patches_that_bring_an_image_by_a_tag_are_told_of_and_networks_are_not(
    scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = {"name": "data", "image": {"reference": "r.example/data:1"}}
    pod = {"initContainers": [{"name": "first", "image": "busybox", **RESTRICTED}], "volumes": [volume]}
    patches = json.dumps(
        [
            {"target": "pod", "patch": {"spec": pod}},
            {"target": "container", "patch": {"image": "r.example/other:latest"}},
        ]
    )
    warn_of_tags(order(scheduler, patches=patches))
    said = capsys.readouterr().err
    assert said.count("has no digest") == 3
    assert all(f"image {image} has no digest" in said for image in ("busybox", "r.example/data:1"))
    assert "image r.example/other:latest has no digest" in said
    warn_of_tags(order(scheduler, profile="gke-a3-mega"))
    assert capsys.readouterr().err == ""


def test_an_image_that_a_tag_names_is_told_once_to_whoever_launches(
    scheduler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["launch", "render", "train", "--scheduler", scheduler]
    words += [f"--{name}={value}" for name, value in TRAIN.items()]
    assert cli.main([*words, "--image", "r.example/hqclip/train:1"]) == 0
    assert capsys.readouterr().err.count("image r.example/hqclip/train:1 has no digest") == 1
    assert cli.main([*words, "--image", f"r.example/hqclip/train@sha256:{'0' * 64}"]) == 0
    assert capsys.readouterr().err == ""
