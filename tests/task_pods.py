"""A compiled pipeline in, the pods of its tasks out, as the backend of Kubeflow 2.17 makes them.

Played after its driver and its compiler to Argo (`backend/src/v2/driver/k8s.go`, `compiler/argocompiler`): volumes are
named after what they mount, and names that are inputs are looked up where the task stands.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from pipelines.lint.compiled import Compiled, Task

Json = dict[str, Any]
SCRATCH = {
    "kfp-launcher": "/kfp-launcher",
    "gcs-scratch": "/gcs",
    "s3-scratch": "/s3",
    "minio-scratch": "/minio",
    "dot-local-scratch": "/.local",
    "dot-cache-scratch": "/.cache",
    "dot-config-scratch": "/.config",
}


def pods(path: Path, inputs: Mapping[str, str] | None = None) -> dict[str, Json]:
    """By the names of the tasks."""
    spec, *platform = yaml.safe_load_all(path.read_text())
    settings = platform[0]["platforms"]["kubernetes"]["deploymentSpec"]["executors"] if platform else {}
    compiled = Compiled(spec)
    made = {}
    for task in compiled.tasks:
        if not task.is_group:
            label = task.component["executorLabel"]
            made[task.name] = pod(task, compiled.container(task), settings.get(label, {}), inputs or {})
    return made


def pod(task: Task, container: Json, settings: Json, inputs: Mapping[str, str]) -> Json:
    """That of one task: what its template has, and the driver's patch."""
    resolved = functools.partial(resolve, task, inputs=inputs)
    mounted = list(volumes(settings, resolved))
    security = {name: int(one) if name != "runAsNonRoot" else one for name, one in settings["securityContext"].items()}
    main = {
        "name": "main",
        "image": container["image"],
        "env": [*(plain(variable) for variable in container.get("env", ())), *environment(settings, resolved)],
        "resources": resources(container.get("resources", {})),
        "volumeMounts": [{"name": volume["name"], "mountPath": path} for path, volume in mounted],
        "securityContext": {
            **security,  # int64 is text in the JSON of a protobuf
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"imagePullPolicy": settings["imagePullPolicy"]} if "imagePullPolicy" in settings else {}),
    }
    spec = {
        "restartPolicy": "Never",
        "containers": [main],
        "volumes": [volume for _, volume in mounted],
        "imagePullSecrets": [
            {"name": resolved(one["secretNameParameter"])} for one in settings.get("imagePullSecret", ())
        ],
        "nodeSelector": settings.get("nodeSelector", {}).get("labels", {}),
        "tolerations": [dict(one) for one in settings.get("tolerations", ())],
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
    }
    if "nodeAffinity" in settings:
        spec["affinity"] = {"nodeAffinity": affinity(settings["nodeAffinity"])}
    if "activeDeadlineSeconds" in settings:
        spec["activeDeadlineSeconds"] = int(settings["activeDeadlineSeconds"])
    metadata = {"name": task.name, **settings.get("podMetadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def volumes(settings: Json, resolved: Callable[[Json], str]) -> Iterator[tuple[str, Json]]:
    """Where each is mounted, and what it is."""
    yield from ((path, {"name": name, "emptyDir": {}}) for name, path in SCRATCH.items())
    for one in settings.get("pvcMount", ()):
        name = resolved(one["pvcNameParameter"])
        yield one["mountPath"], {"name": name, "persistentVolumeClaim": {"claimName": name}}
    for one in settings.get("secretAsVolume", ()):
        name = resolved(one["secretNameParameter"])
        source = {"secretName": name, "optional": one.get("optional", False)}
        yield one["mountPath"], {"name": name, "secret": source}
    for one in settings.get("configMapAsVolume", ()):
        name = resolved(one["configMapNameParameter"])
        source = {"name": name, "optional": one.get("optional", False)}
        yield one["mountPath"], {"name": name, "configMap": source}
    for one in settings.get("emptyDirMounts", ()):
        source = {"medium": one.get("medium", ""), **({"sizeLimit": one["sizeLimit"]} if "sizeLimit" in one else {})}
        yield one["mountPath"], {"name": one["volumeName"], "emptyDir": source}


def plain(variable: Json) -> Json:
    """A value was among the arguments of the driver's pod, where Kubernetes halved what was doubled for it."""
    return {**variable, "value": variable["value"].replace("$$", "$")}


def environment(settings: Json, resolved: Callable[[Json], str]) -> Iterator[Json]:
    """Beside what the container itself has."""
    for kind, parameter, key, reference in (
        ("secretAsEnv", "secretNameParameter", "secretKey", "secretKeyRef"),
        ("configMapAsEnv", "configMapNameParameter", "configMapKey", "configMapKeyRef"),
    ):
        for one in settings.get(kind, ()):
            for pair in one["keyToEnv"]:
                source = {"name": resolved(one[parameter]), "key": pair[key]}
                yield {"name": pair["envVar"], "valueFrom": {reference: source}}
    for one in settings.get("fieldPathAsEnv", ()):
        yield {"name": one["name"], "valueFrom": {"fieldRef": {"fieldPath": one["fieldPath"]}}}


def resolve(task: Task, source: Json, inputs: Mapping[str, str]) -> str:
    """A constant, or an input of the group that the task stands in, handed down to it from the run."""
    if "runtimeValue" in source:
        return str(source["runtimeValue"]["constant"])
    name = source["componentInputParameter"]
    assert task.parent is not None
    assert name in task.parent.takes(), f"parent DAG does not have input parameter {name}"
    asker, origin = task.origin(source)
    assert asker.parent is not None and asker.parent.parent is None, "comes from the run"
    return inputs[origin["componentInputParameter"]]


def resources(asked: Json) -> Json:
    """Requests as they are; an accelerator is a limit. A count that `plan` gives is one here."""
    given = {"cpu": asked.get("resourceCpuRequest"), "memory": asked.get("resourceMemoryRequest")}
    limits = {"memory": asked["resourceMemoryLimit"]} if "resourceMemoryLimit" in asked else {}
    if accelerator := asked.get("accelerator"):
        count = accelerator["resourceCount"]
        limits[accelerator["resourceType"]] = count if count.isdigit() else "1"
    return {"requests": {name: value for name, value in given.items() if value}, "limits": limits}


def affinity(terms: list[Json]) -> Json:
    """Terms with a weight are wishes, those without are asked for."""
    required = [{"matchExpressions": term["matchExpressions"]} for term in terms if "weight" not in term]
    preferred = [
        {"weight": term["weight"], "preference": {"matchExpressions": term["matchExpressions"]}}
        for term in terms
        if "weight" in term
    ]
    both = {
        "requiredDuringSchedulingIgnoredDuringExecution": required and {"nodeSelectorTerms": required},
        "preferredDuringSchedulingIgnoredDuringExecution": preferred,
    }
    return {name: value for name, value in both.items() if value}
