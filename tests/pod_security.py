"""A pod in, what of it is against a level of Kubernetes' Pod Security Standards out; empty if nothing is."""

from __future__ import annotations

from tests.rendering import Json, every_container

USUAL = (
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"
)
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral"),
    *("persistentVolumeClaim", "projected", "secret"),
}


def against_baseline(pod: Json) -> list[str]:
    """What is against the level baseline."""
    spec, found = pod["spec"], []
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += ["hostPath" for volume in spec["volumes"] if "hostPath" in volume]
    found += ["sysctls" for _ in spec["securityContext"].get("sysctls", [])]
    for container in every_container(pod):
        security = container.get("securityContext", {})
        added = set(security.get("capabilities", {}).get("add", []))
        found += ["privileged"] * bool(security.get("privileged"))
        found += [f"capability {name}" for name in sorted(added - set(USUAL.split()))]
        found += ["hostPort" for port in container.get("ports", []) if port.get("hostPort")]
        found += ["procMount"] * (security.get("procMount", "Default") != "Default")
        seccomp = security.get("seccompProfile", spec["securityContext"].get("seccompProfile", {}))
        found += ["seccomp"] * (seccomp.get("type") == "Unconfined")
    return found


def against_restricted(pod: Json) -> list[str]:
    """What is against the level restricted."""
    spec, found = pod["spec"], against_baseline(pod)
    found += [f"volume {name}" for volume in spec["volumes"] for name in volume.keys() - {"name"} - VOLUMES]
    for container in every_container(pod):
        security = {**spec["securityContext"], **container.get("securityContext", {})}
        capabilities = security.get("capabilities", {})
        found += ["runAsNonRoot"] * (security.get("runAsNonRoot") is not True)
        found += ["runAsUser"] * (security.get("runAsUser") == 0)
        found += ["allowPrivilegeEscalation"] * (security.get("allowPrivilegeEscalation") is not False)
        found += ["drop ALL"] * ("ALL" not in capabilities.get("drop", []))
        found += ["add"] * bool(set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"})
        found += ["seccomp"] * (security.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"))
    return found


AGAINST = {"privileged": lambda _: [], "baseline": against_baseline, "restricted": against_restricted}
