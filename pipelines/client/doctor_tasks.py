"""Would this cluster let the tasks of a run be, and do what they do? Namespace, account and nodes in, findings out.

What is asked is what the pods of tasks carry and ask for (pipelines/hardware.py), and what a task that launches does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from components import images
from hqclip.errors import AccessError, ConfigError
from hqclip.launch import kube
from hqclip.launch.kubeflow import WORKFLOWS
from hqclip.launch.platform import Platform
from hqclip.launch.pod_template import pairs, toleration
from hqclip.launch.schedulers.protocol import Scheduler
from pipelines.client.finding import FAIL, OK, WARN, Finding
from pipelines.hardware import GPU, LIGHT, REQUESTS, STANDARD, Request, asks

LEVEL = "pod-security.kubernetes.io/enforce"
AUTHORIZATION = "authorization.k8s.io/v1"
AUTOSCALER = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"  # where one runs, it says so here
KARPENTER = "/apis/karpenter.sh"
FOLLOWING = (("pods", "list"), ("pods/log", "get"), ("events", "list"))
GROUPS = {
    "kueue.x-k8s.io": ("overlays/gke", "Kueue 0.15 or newer, kueue.sigs.k8s.io/docs/installation"),
    "scheduling.volcano.sh": ("overlays/onprem", "Volcano, volcano.sh/en/docs/installation"),
}  # kinds that an overlay brings objects of: what is to be there before it


def pod_security(cluster: kube.Cluster) -> Finding:
    """May the pods of tasks be made in the namespace? Asked by its label, and by a dry run of one."""
    try:
        namespace = cluster.ask("GET", f"/api/v1/namespaces/{cluster.namespace}") or {"metadata": {}}
        level = f"it enforces {namespace['metadata'].get('labels', {}).get(LEVEL, 'no level')}"
    except AccessError:
        level = "its level may not be read"
    carried = "tasks carry what `restricted` asks for"
    try:
        cluster.create(kube.CORE, "pods", task_pod(), dry_run=True)
    except AccessError:
        return Finding(OK, f"{level}, and {carried}; whoever asks here may make no pods, so none was tried")
    except ConfigError as error:
        return Finding(FAIL, f"{level}, and refuses the pod of a task: {error}", "ask whoever rules this namespace")
    return Finding(OK, f"{level}, and takes the pod of a task (dry run)")


def task_pod() -> dict[str, Any]:
    """A pod as Kubeflow makes one of a task: ours is that it is not root, and what it asks for."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True}
    asked = {"requests": {"cpu": LIGHT.cpu, "memory": LIGHT.memory}}
    main = {"name": "main", "image": images.ref("base"), "securityContext": security, "resources": asked}
    spec = {
        "restartPolicy": "Never",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [main],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hqclip-doctor"}, "spec": spec}


def rights_of_tasks(cluster: kube.Cluster, account: str, schedulers: Iterable[Scheduler], *, launches: bool) -> Finding:
    """May the account that runs the tasks launch jobs and follow them? A FAIL only where a run `launches`."""
    who = f"system:serviceaccount:{cluster.namespace}:{account}"
    if cluster.get(kube.CORE, "serviceaccounts", account) is None:
        advice = "tasks run as it: give the one of yours by --service-account"
        return Finding(FAIL, f"there is no service account {account}", advice)
    try:
        missing = [right for right in rights_to_launch(schedulers) if not _allowed(cluster, who, *right)]
    except AccessError as error:
        return Finding(
            WARN,
            f"what {account} may do could not be checked: {error}",
            f"whoever rules the namespace asks: kubectl -n {cluster.namespace} auth can-i --list --as={who}",
        )
    if missing:
        named = ", ".join(f"{verb} {resource}" + (f".{group}" if group else "") for verb, group, resource in missing)
        return Finding(
            FAIL if launches else WARN,
            f"{account}, which runs the tasks, cannot {named}",
            "tasks cannot launch jobs: apply manifests/overlays/kubeflow, which binds it to hqclip-launcher",
        )
    return Finding(OK, f"{account}, which runs the tasks, may launch jobs and follow them")


def rights_to_launch(schedulers: Iterable[Scheduler]) -> Iterator[tuple[str, str, str]]:
    """Verb, API group and resource of what a task needs to launch a job; a part of the role hqclip-launcher."""
    for scheduler in schedulers:
        api, plural = scheduler.kind
        for verb in ("get", "create", "delete"):
            yield verb, api.partition("/")[0], plural
    for resource, verb in FOLLOWING:
        yield verb, "", resource
    yield "get", WORKFLOWS[0].partition("/")[0], WORKFLOWS[1]


def _allowed(cluster: kube.Cluster, who: str, verb: str, group: str, resource: str) -> bool:
    name, _, sub = resource.partition("/")
    asked = {"namespace": cluster.namespace, "verb": verb, "group": group, "resource": name, "subresource": sub}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{cluster.namespace}", "system:authenticated"]
    review = {
        "apiVersion": AUTHORIZATION,
        "kind": "LocalSubjectAccessReview",
        "metadata": {"namespace": cluster.namespace},
        "spec": {"user": who, "groups": groups, "resourceAttributes": asked},
    }
    path = f"/apis/{AUTHORIZATION}/namespaces/{cluster.namespace}/localsubjectaccessreviews"
    return bool((cluster.ask("POST", path, review) or {}).get("status", {}).get("allowed"))


def nodes(
    cluster: kube.Cluster, requests: str, launched: Collection[str] = (), platform: Platform | None = None
) -> Finding:
    """Is there a node that could take each task, were it empty? The stages `launched` have machines of their own."""
    where = platform or Platform()
    there = (cluster.ask("GET", "/api/v1/nodes") or {}).get("items", [])
    found = [node for node in there if not node["spec"].get("unschedulable")]
    asked = {stage: asks(stage, requests, where) for stage in REQUESTS[STANDARD] if stage not in launched}
    homeless = [
        stage for stage, request in asked.items() if not any(fits(request, node, where.of(stage)) for node in found)
    ]
    if not homeless:
        return Finding(OK, f"{len(found)} of them; each task fits one")
    by_request: dict[Request, list[str]] = {}
    for stage in homeless:
        by_request.setdefault(asked[stage], []).append(stage)
    wanted = "; ".join(f"{', '.join(stages)}: {_words(request)}" for request, stages in by_request.items())
    kinds = "; ".join(sorted({_has(node) for node in found})) or "none takes pods"
    told = f"no node can ever take {wanted}. There are {len(found)} ({kinds})"
    if _grows(cluster):
        return Finding(WARN, told, "the autoscaler may bring one; else compile with other --requests")
    return Finding(FAIL, told, "compile and upload with --requests small, launch these stages, or add such a node")


def fits(request: Request, node: Mapping[str, Any], carried: Mapping[str, Any]) -> bool:
    """Whether an empty node has as much, has the labels, and takes pods that tolerate its GPUs and what they say."""
    gpu = carried.get("gpu_resource", GPU)
    labels = node["metadata"].get("labels", {})
    if any(labels.get(name) != value for name, value in pairs(carried.get("node_selector", ())).items()):
        return False
    borne = [toleration(text) for text in carried.get("tolerations", ())]
    has = node["status"].get("allocatable", {})
    closed = [
        taint
        for taint in node["spec"].get("taints", ())
        if taint.get("effect") != "PreferNoSchedule"
        and not (request.gpus and taint.get("key") == gpu)
        and not any(_bears(one, taint) for one in borne)
    ]
    return not closed and all(
        parse_quantity(wanted) <= parse_quantity(has.get(name, "0"))
        for name, wanted in (("cpu", request.cpu), ("memory", request.memory), (gpu, str(request.gpus)))
    )


def _bears(one: Mapping[str, str], taint: Mapping[str, Any]) -> bool:
    """Whether a toleration is of this taint: of its key, and of value and effect where it names them."""
    same_value = one["operator"] == "Exists" or one.get("value") == taint.get("value", "")
    return one["key"] == taint.get("key") and same_value and one.get("effect") in (None, taint.get("effect"))


def _has(node: Mapping[str, Any]) -> str:
    has = node["status"].get("allocatable", {})
    memory: Decimal = parse_quantity(has.get("memory", "0"))
    closed = ", ".join(str(taint.get("key")) for taint in node["spec"].get("taints", ()))
    words = _words(Request(has.get("cpu", "0"), f"{memory / 2**30:.1f}Gi", int(has.get(GPU, 0))))
    return f"{words}, tainted {closed}" if closed else words


def _words(request: Request) -> str:
    return f"{request.cpu} CPUs, {request.memory}, {request.gpus} GPUs"


def _grows(cluster: kube.Cluster) -> bool:
    """Whether something adds nodes where they are missed, as far as that can be seen."""
    for path in (AUTOSCALER, KARPENTER):
        with suppress(AccessError):
            if cluster.ask("GET", path):
                return True
    return False


def overlays(cluster: kube.Cluster) -> Finding:
    """Which overlays of manifests/ find the kinds that they bring objects of?"""
    missing = [
        f"{overlay} first needs {install}: this cluster serves no {group}"
        for group, (overlay, install) in GROUPS.items()
        if cluster.ask("GET", f"/apis/{group}") is None
    ]
    return Finding(OK, "; ".join(missing) or "the kinds of all overlays are there")
