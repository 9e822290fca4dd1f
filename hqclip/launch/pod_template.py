"""One pod of a job, as Kubernetes wants it: a plain object, for any of its schedulers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hqclip.errors import ConfigError
from hqclip.launch.affinity import read_affinity
from hqclip.launch.job import Job
from hqclip.launch.naming import LAUNCH_ID, NAME, OURS, STAGE, STORE, clean
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.profiles import network_patches
from hqclip.launch.spec import LaunchSpec
from hqclip.provenance import IMAGE, RUN

CONTAINER = "worker"
SAFE_TO_EVICT = "cluster-autoscaler.kubernetes.io/safe-to-evict"  # no: half a day of work is not moved to save a node
SCRATCH = "/tmp"  # noqa: S108 - of the pod: an empty volume, because the root is read only
# so that a hang ends with a stack of every rank, not with silence; see docs/operations.md
HANGS = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1", "TORCH_FR_BUFFER_SIZE": "20000"}


@dataclass(frozen=True)
class Place:
    """What a scheduler tells its pods: where node rank and attempt stand in their metadata, and where ranks meet.

    `rendezvous` is host and port of node 0, or `:port` where node 0 writes its address into the store; empty for
    replicas.

    `deadline_s` is for pods whose controller does not end them itself when time is up.
    """

    node_field: str
    attempt_field: str
    rendezvous: str
    deadline_s: int | None = None


def pod_template(spec: LaunchSpec, job: Job, place: Place) -> Json:
    """Metadata and spec of the pods, network preset and patches merged in."""
    template: Json = {
        "metadata": {"labels": job_labels(spec, job), "annotations": job_annotations(spec, job)},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": spec.service_account,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": spec.grace_s,
            "securityContext": _pod_security(spec),
            "containers": [_container(spec, job, place)],
            "volumes": _volumes(spec),
        },
    }
    extras = {
        "activeDeadlineSeconds": place.deadline_s,
        "priorityClassName": spec.priority_class or None,
        "imagePullSecrets": [{"name": name} for name in spec.image_pull_secrets] or None,
        "nodeSelector": _node_selector(spec) or None,
        "tolerations": _tolerations(spec) or None,
        "affinity": {"nodeAffinity": read_affinity(spec.node_affinity)[0]} if spec.node_affinity else None,
    }
    template["spec"] |= {name: value for name, value in extras.items() if value is not None}
    if any(volume.startswith("gcs:") for volume in spec.volumes):
        template["metadata"]["annotations"]["gke-gcsfuse/volumes"] = "true"
    return _patched(template, [*network_patches(spec.network), *read_patches(spec.patches)[0]])


def deadline_s(spec: LaunchSpec) -> int | None:
    """Whole seconds after which Kubernetes itself ends what runs, None for never."""
    return math.ceil(spec.running_timeout_s) or None


def job_labels(spec: LaunchSpec, job: Job) -> dict[str, str]:
    """Of the job and its pods: what lists, cleans up and selects them."""
    own = {
        **OURS,
        "app.kubernetes.io/managed-by": "hqclip",
        NAME: job.name,
        STAGE: job.stage,
    }
    if spec.launch_id:
        own[LAUNCH_ID] = clean(spec.launch_id)
    return {**pairs(spec.labels), **own}


def job_annotations(spec: LaunchSpec, job: Job) -> dict[str, str]:
    """Of the job and its pods: the store is where they tell what happened."""
    return {
        **pairs(spec.job_annotations),
        STORE: job.store,
        "sidecar.istio.io/inject": "false",
        SAFE_TO_EVICT: "false",
    }


def _container(spec: LaunchSpec, job: Job, place: Place) -> Json:
    return {
        "name": CONTAINER,
        "image": spec.image,
        "imagePullPolicy": spec.image_pull_policy,
        "command": ["python", "-m", "hqclip.agent"],
        "args": [literal(job.store), job.key],
        "env": _env(spec, place),
        "resources": _resources(spec),
        "ports": [{"name": "rendezvous", "containerPort": spec.rendezvous_port}] if place.rendezvous else [],
        "volumeMounts": _mounts(spec),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }


def _env(spec: LaunchSpec, place: Place) -> list[Json]:
    fields = {
        "HQCLIP_NODE": place.node_field,
        "HQCLIP_ATTEMPT": place.attempt_field,
        "HQCLIP_POD": "metadata.name",
        "HQCLIP_POD_IP": "status.podIP",
    }
    values = {
        **({"HQCLIP_RENDEZVOUS": place.rendezvous} if place.rendezvous else {}),
        IMAGE: spec.image,
        **({RUN: spec.launch_id} if spec.launch_id else {}),
        "HOME": SCRATCH,
        "PYTHONUNBUFFERED": "1",
        "NCCL_DEBUG": spec.nccl_debug,
        **HANGS,
        **pairs(spec.env),
    }
    told = {"secretKeyRef": references(spec.secret_env), "configMapKeyRef": references(spec.config_env)}
    elsewhere = {name for named in told.values() for name in named}
    return [
        *({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()),
        *({"name": name, "value": literal(value)} for name, value in values.items() if name not in elsewhere),
        *(
            {"name": name, "valueFrom": {kind: {"name": holder, "key": key}}}
            for kind, named in told.items()
            for name, (holder, key) in named.items()
        ),
    ]


def references(items: Iterable[str]) -> dict[str, tuple[str, str]]:
    """`NAME=secret/key`: by NAME what holds its value, and under which key."""
    parts = {name: reference.partition("/") for name, reference in pairs(items).items()}
    return {name: (holder, key) for name, (holder, _, key) in parts.items()}


def literal(text: str) -> str:
    """Text that Kubernetes does not expand: `$` begins a reference to a variable there, doubled it is itself."""
    return text.replace("$", "$$")


def _resources(spec: LaunchSpec) -> Json:
    """Requests and limits alike, so that the pod is of the class Guaranteed and last to be evicted."""
    wanted = {"cpu": spec.cpus, "memory": spec.memory}
    if spec.disk:
        wanted["ephemeral-storage"] = spec.disk
    if spec.gpus:
        wanted[spec.gpu_resource] = str(spec.gpus)
    wanted |= pairs(spec.devices)
    return {"requests": dict(wanted), "limits": dict(wanted)}


def _pod_security(spec: LaunchSpec) -> Json:
    return {
        "runAsNonRoot": True,
        "runAsUser": spec.user,
        "runAsGroup": spec.user,
        "fsGroup": spec.user,
        "fsGroupChangePolicy": "OnRootMismatch",  # else every start walks through all files of a volume
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def _volumes(spec: LaunchSpec) -> list[Json]:
    shm = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": spec.shm}}
    scratch: Json = {"name": "scratch", "emptyDir": {"sizeLimit": spec.disk} if spec.disk else {}}
    return [shm, scratch, *(_volume(number, text) for number, text in enumerate(spec.volumes))]


def _volume(number: int, text: str) -> Json:
    kind, name, _, mode = volume_parts(text)
    sources: dict[str, Json] = {
        "claim": {"persistentVolumeClaim": {"claimName": name, "readOnly": mode == "ro"}},
        "gcs": {
            "csi": {
                "driver": "gcsfuse.csi.storage.gke.io",
                "readOnly": mode == "ro",
                # objects written without markers for their folders are files there all the same
                "volumeAttributes": {"bucketName": name, "mountOptions": "implicit-dirs"},
            }
        },
        "secret": {"secret": {"secretName": name}},
        "config": {"configMap": {"name": name}},
        "empty": {"emptyDir": {"sizeLimit": mode} if mode not in ("ro", "rw") else {}},
    }
    return {"name": f"volume-{number}", **sources[kind]}


def _mounts(spec: LaunchSpec) -> list[Json]:
    given = [(number, *volume_parts(text)) for number, text in enumerate(spec.volumes)]
    return [
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - of the pod
        {"name": "scratch", "mountPath": SCRATCH},
        *(
            {"name": f"volume-{number}", "mountPath": path, **({"readOnly": True} if mode == "ro" else {})}
            for number, _, _, path, mode in given
        ),
    ]


def volume_parts(volume: str) -> tuple[str, str, str, str]:
    """Kind, name, path and mode (ro, rw, or the size of an empty one) of `kind:name:/path:ro`."""
    kind, name, path, *mode = volume.split(":")
    return kind, name, path, mode[0] if mode else "rw"


def _node_selector(spec: LaunchSpec) -> dict[str, str]:
    return {**pairs(spec.node_selector), **({"cloud.google.com/gke-spot": "true"} if spec.spot else {})}


def _tolerations(spec: LaunchSpec) -> list[Json]:
    borne = [toleration(text) for text in spec.tolerations]
    if spec.gpus:
        borne.append({"key": spec.gpu_resource, "operator": "Exists", "effect": "NoSchedule"})
    if spec.spot:
        borne.append({"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"})
    return [one for number, one in enumerate(borne) if one not in borne[:number]]


def toleration(text: str) -> Json:
    """That of `key`, `key=value` or `key=value:Effect`."""
    taint, _, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    borne = {"key": key, "operator": "Equal" if equals else "Exists"}
    return {**borne, **({"value": value} if equals else {}), **({"effect": effect} if effect else {})}


def pairs(items: Iterable[str]) -> dict[str, str]:
    """`NAME=value`, by NAME."""
    return {name: value for name, _, value in (item.partition("=") for item in items)}


def _patched(template: Json, patches: list[Any]) -> Json:
    template = apply_patches("pod", template, patches)
    groups = [kind for kind in ("containers", "initContainers") if kind in template["spec"]]
    names = [container["name"] for kind in groups for container in template["spec"][kind]]
    for target in (patch["target"] for patch in patches):
        name = target.removeprefix("container:")
        if name != target and name not in names:
            raise ConfigError(f"patches: there is no container {name!r}; the pods have {', '.join(names)}")
    for kind in groups:
        template["spec"][kind] = [_patched_container(container, patches) for container in template["spec"][kind]]
    return template


def _patched_container(container: Json, patches: list[Any]) -> Json:
    changed = apply_patches(f"container:{container['name']}", container, patches)
    return apply_patches("container", changed, patches) if container["name"] == CONTAINER else changed
