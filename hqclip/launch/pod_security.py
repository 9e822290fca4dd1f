"""A pod in, what of it is against a level of Kubernetes' Pod Security Standards out; empty if nothing is.

https://kubernetes.io/docs/concepts/security/pod-security-standards/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hqclip.launch.patches import Json

USUAL = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
)
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def pods_in(body: Any) -> Iterator[Json]:
    """Every pod template of a rendered object, wherever it stands."""
    if isinstance(body, dict):
        spec = body.get("spec")
        if isinstance(spec, dict) and isinstance(spec.get("containers"), list):
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
    spec, found = pod["spec"], []
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += ["hostPath" for volume in spec.get("volumes", []) if "hostPath" in volume]
    found += ["sysctls" for _ in spec.get("securityContext", {}).get("sysctls", [])]
    for container in every_container(pod):
        security = container.get("securityContext", {})
        added = set(security.get("capabilities", {}).get("add", []))
        found += ["privileged"] * bool(security.get("privileged"))
        found += [f"capability {name}" for name in sorted(added - set(USUAL.split()))]
        found += ["hostPort" for port in container.get("ports", []) if port.get("hostPort")]
        found += ["procMount"] * (security.get("procMount", "Default") != "Default")
        found += ["hostProcess"] * bool(security.get("windowsOptions", {}).get("hostProcess"))
        seccomp = security.get("seccompProfile", spec.get("securityContext", {}).get("seccompProfile", {}))
        found += ["seccomp"] * (seccomp.get("type") == "Unconfined")
        apparmor = security.get("appArmorProfile", spec.get("securityContext", {}).get("appArmorProfile", {}))
        found += ["appArmor"] * (apparmor.get("type") == "Unconfined")
    return found


def against_restricted(pod: Json) -> list[str]:
    """What is against the level restricted."""
    spec, found = pod["spec"], against_baseline(pod)
    found += [f"volume {name}" for volume in spec.get("volumes", []) for name in volume.keys() - {"name"} - VOLUMES]
    for container in every_container(pod):
        security = {**spec.get("securityContext", {}), **container.get("securityContext", {})}
        capabilities = security.get("capabilities", {})
        found += ["runAsNonRoot"] * (security.get("runAsNonRoot") is not True)
        found += ["runAsUser"] * (security.get("runAsUser") == 0)
        found += ["allowPrivilegeEscalation"] * (security.get("allowPrivilegeEscalation") is not False)
        found += ["drop ALL"] * ("ALL" not in capabilities.get("drop", []))
        found += ["add"] * bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"})
        found += ["seccomp"] * (security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"))
    return found


def every_container(pod: Json) -> list[Json]:
    """Those that come first, those that somebody puts in to look around, and those that do the work."""
    kinds = ("initContainers", "ephemeralContainers", "containers")
    return [container for kind in kinds for container in pod["spec"].get(kind) or []]


AGAINST = {"privileged": against_privileged, "baseline": against_baseline, "restricted": against_restricted}
