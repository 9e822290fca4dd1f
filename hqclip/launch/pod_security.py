"""A pod in, what of it is against a level of Kubernetes' Pod Security Standards out; empty if nothing is.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, as the server itself decides it at the newest
version: github.com/kubernetes/pod-security-admission, commit 8f84a87, folder policy. Two of its exceptions are not made
here: a pod in a user namespace (`hostUsers: false`) keeps the same rules, as a cluster that knows none drops the field
and runs the pod outside of one; so does a pod of Windows, where nothing of ours runs.

Each thing found says where it stands and its value: `container worker: capabilities.add="NET_ADMIN"`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hqclip.launch.patches import Json

CAPABILITIES = {
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image"),
    *("persistentVolumeClaim", "projected", "secret"),
}
SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_fin_timeout"),
    *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_keepalive_time"),
    *("net.ipv4.tcp_notsent_lowat", "net.ipv4.tcp_rmem", "net.ipv4.tcp_slow_start_after_idle"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.tcp_wmem"),
}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
CONFINED = ("RuntimeDefault", "Localhost")  # of seccomp and AppArmor
APPARMOR = "container.apparmor.security.beta.kubernetes.io/"  # what is said of a container, by its name
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
_CONTAINERS = {
    "initContainers": "init container",
    "containers": "container",
    "ephemeralContainers": "ephemeral container",
}


def pods_in(body: Any) -> Iterator[Json]:
    """Every pod template of a rendered object, wherever it stands."""
    if isinstance(body, dict):
        spec = body.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            yield body
        for value in body.values():
            yield from pods_in(value)
    elif isinstance(body, list):
        for value in body:
            yield from pods_in(value)


def against_privileged(_: Json) -> list[str]:
    """Nothing is."""
    return []


def against_baseline(pod: Json) -> list[str]:
    """What is against the level baseline."""
    found = [f"pod: {what}" for what in (*_open_pod(pod), *_unconfined(_security(pod["spec"])))]
    found += [f"volume {volume['name']}: {_is('hostPath', volume['hostPath'])}" for volume in _host_volumes(pod)]
    for where, container in every_container(pod):
        found += [f"{where}: {what}" for what in (*_open_container(container), *_unconfined(_security(container)))]
    return found


def against_restricted(pod: Json) -> list[str]:
    """What is against the level restricted: all that is against baseline, and more."""
    above, found = _security(pod["spec"]), against_baseline(pod)
    found += [f"pod: {what}" for what in _root(above)]
    for volume in _listed(pod["spec"], "volumes"):
        of_kinds = volume.keys() - {"name", "hostPath"} - VOLUMES
        found += [f"volume {volume['name']}: {kind}" for kind in sorted(of_kinds)]
    for where, container in every_container(pod):
        found += [f"{where}: {what}" for what in (*_root(_security(container)), *_lax(_security(container), above))]
    return found


def beyond_restricted(pod: Json) -> list[str]:
    """What is against the level restricted, and which containers reach the disk of their node with it.

    To the levels a host path is forbidden or not; where some are allowed it matters whose they are.
    """
    found, volumes = against_restricted(pod), {volume["name"] for volume in _host_volumes(pod)}
    for where, container in every_container(pod):
        for mount in _listed(container, "volumeMounts"):
            if mount["name"] in volumes:
                found.append(f"{where}: reads the hostPath of volume {mount['name']}")
                if not mount.get("readOnly"):
                    found.append(f"{where}: writes to the hostPath of volume {mount['name']}")
    return found


def every_container(pod: Json) -> Iterator[tuple[str, Json]]:
    """Those that come first, those that do the work, and those that somebody puts in to look around, with a name."""
    for kind, called in _CONTAINERS.items():
        for container in _listed(pod["spec"], kind):
            yield f"{called} {container['name']}", container


def _open_pod(pod: Json) -> Iterator[str]:
    """What only a whole pod can ask for."""
    spec = pod["spec"]
    for namespace in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(namespace):
            yield _is(namespace, spec[namespace])
    for sysctl in _listed(_security(spec), "sysctls"):
        if sysctl["name"] not in SYSCTLS:
            yield _is("sysctls", sysctl["name"])
    for name, profile in ((pod.get("metadata") or {}).get("annotations") or {}).items():
        confined = profile in ("", "runtime/default") or str(profile).startswith("localhost/")
        if name.startswith(APPARMOR) and not confined:
            yield _is(f"annotation {name}", profile)


def _open_container(container: Json) -> Iterator[str]:
    """What only a container can ask for."""
    security = _security(container)
    if security.get("privileged"):
        yield _is("privileged", security["privileged"])
    for name in _listed(security.get("capabilities") or {}, "add"):
        if name not in CAPABILITIES:
            yield _is("capabilities.add", name)
    if security.get("procMount") not in (None, "Default"):
        yield _is("procMount", security["procMount"])
    for port in _listed(container, "ports"):
        if port.get("hostPort"):
            yield _is("hostPort", port["hostPort"])
    called = {probe: container.get(probe) for probe in _PROBES}
    called |= {f"lifecycle.{hook}": (container.get("lifecycle") or {}).get(hook) for hook in _HOOKS}
    for handler, does in called.items():
        for way in ("httpGet", "tcpSocket"):
            host = ((does or {}).get(way) or {}).get("host")
            if host:
                yield _is(f"{handler}.{way}.host", host)


def _unconfined(security: Json) -> Iterator[str]:
    """What a pod and a container can ask for alike. A container's word does not undo that of its pod."""
    for profile in ("seccompProfile", "appArmorProfile"):
        if security.get(profile) is not None and security[profile].get("type") not in CONFINED:
            yield _is(f"{profile}.type", security[profile].get("type"))
    options = security.get("seLinuxOptions") or {}
    if (options.get("type") or "") not in SELINUX_TYPES:
        yield _is("seLinuxOptions.type", options["type"])
    for key in ("user", "role"):
        if options.get(key):
            yield _is(f"seLinuxOptions.{key}", options[key])
    windows = security.get("windowsOptions") or {}
    if windows.get("hostProcess"):
        yield _is("windowsOptions.hostProcess", windows["hostProcess"])


def _root(security: Json) -> Iterator[str]:
    """What neither a pod nor a container may say where root is not allowed."""
    if security.get("runAsUser") == 0:
        yield _is("runAsUser", security["runAsUser"])
    if security.get("runAsNonRoot") not in (None, True):
        yield _is("runAsNonRoot", security["runAsNonRoot"])


def _lax(security: Json, above: Json) -> Iterator[str]:
    """What a container must say itself where all is restricted, or its pod `above` for it."""
    if security.get("runAsNonRoot") is None and above.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if security.get("seccompProfile") is None and (above.get("seccompProfile") or {}).get("type") not in CONFINED:
        yield "seccompProfile.type is not RuntimeDefault"
    if security.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = security.get("capabilities") or {}
    if "ALL" not in _listed(capabilities, "drop"):
        yield "capabilities.drop has no ALL"
    for name in _listed(capabilities, "add"):
        if name in CAPABILITIES - {"NET_BIND_SERVICE"}:
            yield _is("capabilities.add", name)


def _host_volumes(pod: Json) -> list[Json]:
    return [volume for volume in _listed(pod["spec"], "volumes") if volume.get("hostPath") is not None]


def _security(holder: Json) -> Json:
    return holder.get("securityContext") or {}


def _listed(holder: Json, key: str) -> list[Any]:
    return holder.get(key) or []


def _is(name: str, value: Any) -> str:
    return f"{name}={json.dumps(value)}"


AGAINST = {"privileged": against_privileged, "baseline": against_baseline, "restricted": against_restricted}
