"""What the pod of a task carries by its platform, in the words of kfp-kubernetes, so that it is in the compiled YAML.

A name that the file leaves open is an input of the pipeline, which Kubeflow puts in when the pod is made.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from kfp import dsl, kubernetes

from hqclip.launch.affinity import PREFERRED, REQUIRED, read_affinity
from hqclip.launch.platform import Platform, open_name
from hqclip.launch.pod_template import literal, pairs, references, toleration, volume_parts

PREFIX = "platform_"  # of the inputs that give open names
MARK = "hqclip/platform"  # annotation: the digest of the platform, so that it is part of the version, whatever it says
SHM = "/dev/shm"  # noqa: S108 - of the pod
Settings = Mapping[str, Any]
Names = Mapping[str, Any]  # inputs of the pipeline by the names that are open


def carry(task: dsl.PipelineTask, settings: Settings, names: Names) -> None:
    """All that the settings of a platform say of a pod, but what it asks its node for."""
    _where(task, settings)
    _environment(task, settings, names)
    _volumes(task, settings, names)
    if settings.get("image_pull_secrets"):
        kubernetes.set_image_pull_secrets(task, [_named(name, names) for name in settings["image_pull_secrets"]])
    if settings.get("image_pull_policy"):
        kubernetes.set_image_pull_policy(task, settings["image_pull_policy"])
    if settings.get("user"):
        kubernetes.set_security_context(task, run_as_user=settings["user"], run_as_group=settings["user"])
    if settings.get("timeout_s"):
        kubernetes.set_timeout(task, settings["timeout_s"])
    for name, value in pairs(settings.get("labels", ())).items():
        kubernetes.add_pod_label(task, name, value)
    for name, value in pairs(settings.get("annotations", ())).items():
        kubernetes.add_pod_annotation(task, name, value)


def mark(task: dsl.PipelineTask, platform: Platform) -> None:
    """Say by which platform its pod is what it is."""
    if platform.digest:
        kubernetes.add_pod_annotation(task, MARK, platform.digest[:16])


def _where(task: dsl.PipelineTask, settings: Settings) -> None:
    for name, value in pairs(settings.get("node_selector", ())).items():
        kubernetes.add_node_selector(task, name, value)
    for text in settings.get("tolerations", ()):
        kubernetes.add_toleration(task, **toleration(text))
    affinity = read_affinity(settings.get("node_affinity", ""))[0]
    for term in affinity.get(REQUIRED, {}).get("nodeSelectorTerms", ()):
        kubernetes.add_node_affinity(task, term["matchExpressions"])
    for wish in affinity.get(PREFERRED, ()):
        kubernetes.add_node_affinity(task, wish["preference"]["matchExpressions"], weight=wish["weight"])


def _environment(task: dsl.PipelineTask, settings: Settings, names: Names) -> None:
    for name, value in pairs(settings.get("env", ())).items():
        task.set_env_variable(name, literal(literal(value)))  # it is an argument of the driver's pod first
    takes = {"secret_env": kubernetes.use_secret_as_env, "config_env": kubernetes.use_config_map_as_env}
    for kind, take in takes.items():
        by_holder: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name, (holder, key) in references(settings.get(kind, ())).items():
            by_holder[holder][key].append(name)
        for holder, keys in by_holder.items():
            for number in range(max(map(len, keys.values()))):  # a call has each key once
                once = {key: wanted[number] for key, wanted in keys.items() if number < len(wanted)}
                take(task, _named(holder, names), once)


def _volumes(task: dsl.PipelineTask, settings: Settings, names: Names) -> None:
    if settings.get("shm"):
        kubernetes.empty_dir_mount(task, "shm", SHM, medium="Memory", size_limit=settings["shm"])
    for text in settings.get("volumes", ()):
        kind, name, path, mode = volume_parts(text)
        if kind == "claim":
            kubernetes.mount_pvc(task, _named(name, names), path)
        elif kind == "secret":
            kubernetes.use_secret_as_volume(task, _named(name, names), path)
        elif kind == "config":
            kubernetes.use_config_map_as_volume(task, _named(name, names), path)
        else:
            kubernetes.empty_dir_mount(task, name, path, size_limit=None if mode in ("ro", "rw") else mode)


def _named(name: str, names: Names) -> Any:
    """A name as Kubernetes has it, or the input of the pipeline that gives it."""
    left = open_name(name)
    return names[left] if left else name
