"""Pods are judged as Kubernetes judges them: every control of the Pod Security Standards, wherever it can stand."""

from __future__ import annotations

from typing import Any

import pytest

from hqclip.launch.patches import merge
from hqclip.launch.pod_security import AGAINST, beyond_restricted
from tests.rendering import Json

PLACES = {
    "containers": "container work",
    "initContainers": "init container first",
    "ephemeralContainers": "ephemeral container look",
}


def sound() -> Json:
    """A pod of all kinds of containers that keeps the strictest level."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "metadata": {"annotations": {}},
        "spec": {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            **{kind: [{"name": called.split()[-1], "securityContext": security}] for kind, called in PLACES.items()},
        },
    }


def of_the_pod(more: Json) -> Json:
    return dict(merge(sound(), more))


def of_a_container(kind: str, more: Json) -> Json:
    pod = sound()
    pod["spec"][kind] = [merge(container, more) for container in pod["spec"][kind]]
    return pod


def judged(pod: Json) -> tuple[list[str], list[str]]:
    """What is against baseline, and what is against restricted alone."""
    baseline = AGAINST["baseline"](pod)
    return baseline, [what for what in AGAINST["restricted"](pod) if what not in baseline]


def probe(handler: str, way: str, host: str = "169.254.169.254") -> Json:
    asked = {way: {"host": host, "port": 80}}
    return {"lifecycle": {handler: asked}} if handler in ("postStart", "preStop") else {handler: asked}


PROBES = [
    (f"{prefix}{handler}.{way}.host", probe(handler, way))
    for prefix, handlers in (
        ("", ("livenessProbe", "readinessProbe", "startupProbe")),
        ("lifecycle.", ("postStart", "preStop")),
    )
    for handler in handlers
    for way in ("httpGet", "tcpSocket")
]
ANYWHERE_AGAINST_BASELINE: list[tuple[Json, str]] = [
    ({"seccompProfile": {"type": "Unconfined"}}, 'seccompProfile.type="Unconfined"'),
    ({"appArmorProfile": {"type": "Unconfined"}}, 'appArmorProfile.type="Unconfined"'),
    ({"seLinuxOptions": {"type": "spc_t"}}, 'seLinuxOptions.type="spc_t"'),
    ({"seLinuxOptions": {"user": "system_u", "type": "container_t"}}, 'seLinuxOptions.user="system_u"'),
    ({"seLinuxOptions": {"role": "system_r"}}, 'seLinuxOptions.role="system_r"'),
    ({"windowsOptions": {"hostProcess": True}}, "windowsOptions.hostProcess=true"),
]
ANYWHERE_AGAINST_RESTRICTED: list[tuple[Json, str]] = [
    ({"runAsUser": 0}, "runAsUser=0"),
    ({"runAsNonRoot": False}, "runAsNonRoot=false"),
]
CONTAINER_AGAINST_BASELINE: list[tuple[Json, str]] = [
    ({"securityContext": {"privileged": True}}, "privileged=true"),
    ({"securityContext": {"capabilities": {"add": ["CHOWN", "SYS_ADMIN"]}}}, 'capabilities.add="SYS_ADMIN"'),
    ({"securityContext": {"capabilities": {"add": ["ALL"]}}}, 'capabilities.add="ALL"'),
    ({"securityContext": {"procMount": "Unmasked"}}, 'procMount="Unmasked"'),
    ({"ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 81}]}, "hostPort=81"),
    *((asked, f'{name}="169.254.169.254"') for name, asked in PROBES),
]
CONTAINER_AGAINST_RESTRICTED: list[tuple[Json, str]] = [
    ({"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE", "CHOWN"]}}}, 'capabilities.add="CHOWN"'),
    ({"securityContext": {"capabilities": {"drop": ["NET_RAW"]}}}, "capabilities.drop has no ALL"),
    ({"securityContext": {"capabilities": None}}, "capabilities.drop has no ALL"),
    ({"securityContext": {"allowPrivilegeEscalation": True}}, "allowPrivilegeEscalation is not false"),
    ({"securityContext": {"allowPrivilegeEscalation": None}}, "allowPrivilegeEscalation is not false"),
]
POD_AGAINST_BASELINE: list[tuple[Json, str]] = [
    ({"spec": {"hostNetwork": True}}, "pod: hostNetwork=true"),
    ({"spec": {"hostPID": True}}, "pod: hostPID=true"),
    ({"spec": {"hostIPC": True}}, "pod: hostIPC=true"),
    ({"spec": {"volumes": [{"name": "h", "hostPath": {"path": "/"}}]}}, 'volume h: hostPath={"path": "/"}'),
    ({"spec": {"securityContext": {"sysctls": [{"name": "kernel.msgmax"}]}}}, 'pod: sysctls="kernel.msgmax"'),
    *(
        ({"metadata": {"annotations": {f"container.apparmor.security.beta.kubernetes.io/{name}": "unconfined"}}}, what)
        for name in ("work", "first")
        for what in [f'pod: annotation container.apparmor.security.beta.kubernetes.io/{name}="unconfined"']
    ),
]
VOLUMES = (
    *("awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "fc", "flexVolume", "flocker"),
    *("gcePersistentDisk", "gitRepo", "glusterfs", "iscsi", "nfs", "photonPersistentDisk", "portworxVolume"),
    *("quobyte", "rbd", "scaleIO", "storageos", "vsphereVolume", "one-of-tomorrow"),
)


@pytest.mark.parametrize(("asked", "what"), ANYWHERE_AGAINST_BASELINE)
@pytest.mark.parametrize("place", ["pod", *PLACES])
def test_no_container_leaves_its_confinement_nor_its_pod_for_it(place: str, asked: Json, what: str) -> None:
    if place == "pod":
        confined = {"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}}
        pod = of_the_pod({"spec": {"securityContext": asked}})
        assert judged(pod)[0] == [f"pod: {what}"]
        for kind in PLACES:  # what these say does not undo it
            pod["spec"][kind] = [merge(container, {"securityContext": confined}) for container in pod["spec"][kind]]
        assert judged(pod) == ([f"pod: {what}"], [])
    else:
        assert judged(of_a_container(place, {"securityContext": asked})) == ([f"{PLACES[place]}: {what}"], [])


@pytest.mark.parametrize(("asked", "what"), ANYWHERE_AGAINST_RESTRICTED)
@pytest.mark.parametrize("place", ["pod", *PLACES])
def test_neither_a_container_nor_its_pod_says_root(place: str, asked: Json, what: str) -> None:
    if place == "pod":
        pod = of_the_pod({"spec": {"securityContext": asked}})
        for kind in PLACES:
            other = {"securityContext": {"runAsUser": 1000, "runAsNonRoot": True}}
            pod["spec"][kind] = [merge(container, other) for container in pod["spec"][kind]]
        assert judged(pod) == ([], [f"pod: {what}"])
    else:
        assert judged(of_a_container(place, {"securityContext": asked})) == ([], [f"{PLACES[place]}: {what}"])


@pytest.mark.parametrize(("asked", "what"), CONTAINER_AGAINST_BASELINE)
@pytest.mark.parametrize("kind", PLACES)
def test_what_a_container_may_not_ask_for_at_either_level(kind: str, asked: Json, what: str) -> None:
    assert judged(of_a_container(kind, asked))[0] == [f"{PLACES[kind]}: {what}"]
    assert AGAINST["privileged"](of_a_container(kind, asked)) == []


@pytest.mark.parametrize(("asked", "what"), CONTAINER_AGAINST_RESTRICTED)
@pytest.mark.parametrize("kind", PLACES)
def test_what_only_the_strictest_level_asks_of_a_container(kind: str, asked: Json, what: str) -> None:
    pod = of_a_container(kind, asked)
    pod["spec"]["securityContext"] |= {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert judged(pod) == ([], [f"{PLACES[kind]}: {what}"]), "a pod has no such fields: it cannot say it for them"


@pytest.mark.parametrize(("asked", "what"), POD_AGAINST_BASELINE)
def test_what_a_pod_may_not_ask_for_at_either_level(asked: Json, what: str) -> None:
    assert judged(of_the_pod(asked)) == ([what], [])


@pytest.mark.parametrize("kind", VOLUMES)
def test_only_the_strictest_level_minds_volumes_of_other_servers(kind: str) -> None:
    pod = of_the_pod({"spec": {"volumes": [{"name": "v", kind: {}}]}})
    assert judged(pod) == ([], [f"volume v: {kind}"])


@pytest.mark.parametrize(
    ("missing", "what"),
    [("runAsNonRoot", "runAsNonRoot is not true"), ("seccompProfile", "seccompProfile.type is not RuntimeDefault")],
)
def test_each_container_says_what_its_pod_leaves_open(missing: str, what: str) -> None:
    said = {"runAsNonRoot": True, "seccompProfile": {"type": "Localhost", "localhostProfile": "own.json"}}
    pod = of_the_pod({"spec": {"securityContext": {missing: None}}})
    everyone = (PLACES["initContainers"], PLACES["containers"], PLACES["ephemeralContainers"])
    assert judged(pod) == ([], [f"{where}: {what}" for where in everyone])
    for kind in PLACES:
        pod["spec"][kind][0] = merge(pod["spec"][kind][0], {"securityContext": {missing: said[missing]}})
    assert judged(pod) == ([], [])


def test_a_user_namespace_lets_nobody_be_root() -> None:
    """A cluster that has none drops the field, and root of the pod is root of the node."""
    pod = of_the_pod({"spec": {"hostUsers": False, "securityContext": {"runAsUser": 0}}})
    assert judged(pod) == ([], ["pod: runAsUser=0"])


ALLOWED_ANYWHERE: list[Json] = [
    *(
        {"seLinuxOptions": {"type": f"container{name}_t", "level": "s0:c1"}}
        for name in ("", "_init", "_kvm", "_engine")
    ),
    {"seLinuxOptions": {"type": "", "user": "", "role": ""}},
    {"seccompProfile": {"type": "Localhost", "localhostProfile": "own.json"}},
    *({"appArmorProfile": {"type": kind}} for kind in ("RuntimeDefault", "Localhost")),
    {"windowsOptions": {"hostProcess": False, "runAsUserName": "user"}},
    {"runAsUser": 1},
]
ALLOWED_OF_A_CONTAINER: list[Json] = [
    {"securityContext": {"capabilities": {"add": ["NET_BIND_SERVICE"]}}},
    {"securityContext": {"capabilities": {"drop": ["NET_RAW", "ALL"]}}},
    {"securityContext": {"privileged": False, "procMount": "Default", "runAsNonRoot": True}},
    {"ports": [{"containerPort": 80, "hostPort": 0}]},
    *(probe(handler, way, "") for handler in ("livenessProbe", "preStop") for way in ("httpGet", "tcpSocket")),
    {"livenessProbe": {"grpc": {"port": 80}}, "lifecycle": {"preStop": {"exec": {"command": ["true"]}}}},
]
SYSCTLS = [
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    *("net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"),
    *("net.ipv4.tcp_slow_start_after_idle", "net.ipv4.tcp_notsent_lowat"),
]
ALLOWED_OF_A_POD: list[Json] = [
    *(
        {"spec": {"volumes": [{"name": "v", kind: {}}]}}
        for kind in (
            *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
            *("persistentVolumeClaim", "projected", "secret"),
        )
    ),
    *({"spec": {"securityContext": {"sysctls": [{"name": name, "value": "1"}]}}} for name in SYSCTLS),
    *(
        {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/work": profile}}}
        for profile in ("runtime/default", "localhost/own", "")
    ),
    {"metadata": {"annotations": {"example.com/apparmor": "unconfined"}}},
    {"spec": {"hostNetwork": False, "hostPID": False, "hostIPC": False}},
]


@pytest.mark.parametrize("asked", ALLOWED_ANYWHERE)
def test_what_pods_and_containers_may_say(asked: Json) -> None:
    assert judged(of_the_pod({"spec": {"securityContext": asked}})) == ([], [])
    for kind in PLACES:
        assert judged(of_a_container(kind, {"securityContext": asked})) == ([], [])


@pytest.mark.parametrize("asked", ALLOWED_OF_A_CONTAINER)
def test_what_a_container_may_ask_for(asked: Json) -> None:
    assert [judged(of_a_container(kind, asked)) for kind in PLACES] == [([], [])] * 3


@pytest.mark.parametrize("asked", ALLOWED_OF_A_POD)
def test_what_a_pod_may_ask_for(asked: Json) -> None:
    assert judged(of_the_pod(asked)) == ([], [])


@pytest.mark.parametrize("kind", PLACES)
def test_beyond_the_levels_it_is_told_which_container_reaches_the_disk_of_the_node(kind: str) -> None:
    volumes: list[dict[str, Any]] = [{"name": "h", "hostPath": {"path": "/sys"}}, {"name": "e", "emptyDir": {}}]
    for read_only, verbs in ((True, ["reads"]), (False, ["reads", "writes to"])):
        mounts = [{"name": "h", "mountPath": "/a", "readOnly": read_only}, {"name": "e", "mountPath": "/b"}]
        pod = of_a_container(kind, {"volumeMounts": mounts})
        pod["spec"]["volumes"] = volumes
        told = [what for what in beyond_restricted(pod) if what not in AGAINST["restricted"](pod)]
        assert told == [f"{PLACES[kind]}: {verb} the hostPath of volume h" for verb in verbs]
