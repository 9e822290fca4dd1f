"""The specification of a pod in, what a level of Pod Security has against it out.

As kubernetes.io/docs/concepts/security/pod-security-standards has the levels, without what our pods never set: SELinux,
AppArmor, sysctls, /proc masks, Windows.
"""

from __future__ import annotations

from typing import Any

LEVELS = ("privileged", "baseline", "restricted")
HARMLESS = {  # capabilities that baseline lets a container have
    *("AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
Json = dict[str, Any]


def pod_security(level: str, pod: Json) -> list[str]:
    """What a level of Pod Security has against the spec of a pod."""
    problems = [f"{key} is set" for key in ("hostNetwork", "hostPID", "hostIPC") if pod.get(key)]
    problems += [f"volume {volume['name']} is of the node" for volume in pod.get("volumes", []) if "hostPath" in volume]
    kinds = {key for volume in pod.get("volumes", []) for key in volume} - {"name"}
    if level == "restricted" and not kinds <= VOLUMES:
        problems.append(f"volumes of the kinds {kinds - VOLUMES}")
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        security = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        asks = _container_security(level, container, security)
        problems += [f"container {container['name']} {asked}" for asked in asks]
    return problems if level != "privileged" else []


def _container_security(level: str, container: Json, security: Json) -> list[str]:
    capabilities = security.get("capabilities", {})
    added = set(capabilities.get("add", []))
    refusals = {
        "is privileged": security.get("privileged"),
        "has a port of the node": any("hostPort" in port for port in container.get("ports", [])),
        "is unconfined": security.get("seccompProfile", {}).get("type") == "Unconfined",
        f"adds {added}": added - (HARMLESS if level == "baseline" else {"NET_BIND_SERVICE"}),
    }
    if level == "restricted":
        refusals |= {
            "may become root": security.get("allowPrivilegeEscalation") is not False,
            "may be root": security.get("runAsNonRoot") is not True or security.get("runAsUser") == 0,
            "keeps capabilities": "ALL" not in capabilities.get("drop", []),
            "has no seccomp profile": security.get("seccompProfile", {}).get("type")
            not in ("RuntimeDefault", "Localhost"),
        }
    return [text for text, refused in refusals.items() if refused]
