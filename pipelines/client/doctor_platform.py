"""Is there what a platform names? The namespace of the tasks in, a finding out.

A pod whose secret, config map, key or claim is missing waits for ever, and Kubeflow says that it runs.
"""

from __future__ import annotations

from hqclip.errors import AccessError
from hqclip.launch import kube
from hqclip.launch.platform import Platform, open_name
from hqclip.launch.pod_template import references, volume_parts
from pipelines.client.finding import FAIL, OK, WARN, Finding

SECRETS, CONFIG_MAPS, CLAIMS = "secrets", "configmaps", "persistentvolumeclaims"
WORDS = {SECRETS: "secret", CONFIG_MAPS: "config map", CLAIMS: "claim"}
_MOUNTED = {"secret": SECRETS, "config": CONFIG_MAPS, "claim": CLAIMS}


def named(cluster: kube.Cluster, platform: Platform) -> Finding:
    """Are the secrets, config maps and claims there, with the keys that are asked for?"""
    missing, unseen, seen = [], [], []
    for (plural, name), keys in sorted(objects(platform).items()):
        what = f"{WORDS[plural]} {name}"
        try:
            found = cluster.get(kube.CORE, plural, name)
        except AccessError:
            unseen.append(what)
            continue
        has = {**(found or {}).get("data", {}), **(found or {}).get("binaryData", {})}
        lost = sorted(keys - set(has))
        if found is None:
            missing.append(what)
        elif lost:
            missing.append(f"{what} without {', '.join(lost)}")
        else:
            seen.append(what)
    if missing:
        advice = "make them in this namespace first: a pod that misses one waits for ever"
        return Finding(FAIL, f"missing: {'; '.join(missing)}", advice)
    if unseen:
        return Finding(WARN, f"not looked at, for want of rights: {', '.join(unseen)}", "")
    left = [f"${name}" for name in platform.open_names]
    return Finding(OK, ", ".join(seen) + (f"; left to the runs: {', '.join(left)}" if left else "") or "it names none")


def objects(platform: Platform) -> dict[tuple[str, str], set[str]]:
    """By plural and name, the keys that are taken from each; names that are left to the runs are not among them."""
    found: dict[tuple[str, str], set[str]] = {}
    for settings in (platform.common, *platform.sections.values()):
        for name in settings.get("image_pull_secrets", ()):
            found.setdefault((SECRETS, name), set())
        for kind, plural in (("secret_env", SECRETS), ("config_env", CONFIG_MAPS)):
            for holder, key in references(settings.get(kind, ())).values():
                found.setdefault((plural, holder), set()).add(key)
        for kind, name, _, _ in map(volume_parts, settings.get("volumes", ())):
            if kind in _MOUNTED:
                found.setdefault((_MOUNTED[kind], name), set())
    return {(plural, name): keys for (plural, name), keys in found.items() if not open_name(name)}
