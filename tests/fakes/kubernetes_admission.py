"""What API server and webhooks (Volcano's, JobSet's) do to an object before it is stored: defaults and refusals."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from jsonschema import ValidationError

from tests import crd_schemas
from tests.fakes.kubernetes_api import Resource, refused

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
MAX_ANNOTATIONS = 256 * 1024
EVENTS = ("*", "PodFailed", "PodEvicted", "PodPending", "Unknown", "TaskCompleted", "TaskFailed", "JobUpdated")
ACTIONS = (
    *("AbortJob", "RestartJob", "RestartTask", "RestartPod", "RestartPartition"),
    *("TerminateJob", "CompleteJob", "ResumeJob"),
)
PLUGINS = ("ssh", "env", "svc", "tensorflow", "mpi", "pytorch", "ray", "hcclrank")
CAUSES = {"type": "FieldValueTypeInvalid", "required": "FieldValueRequired", "enum": "FieldValueNotSupported"}
MUTABLE = ("minAvailable", "priorityClassName", "tasks")


def admit(
    resource: Resource, obj: dict[str, Any], queues: dict[str, str], lacks: Collection[str] = (), *, strict: bool
) -> list[str]:
    """Fill in what the webhooks fill in, refuse what they and the schema refuse. `queues`: name to state.

    Fields that nobody knows (or that the versions here `lacks`) are dropped with the warnings that are given back; they
    are refused if the request is `strict`.
    """
    warnings: list[str] = []
    _check_metadata(resource, obj.setdefault("metadata", {}))
    if resource.custom:
        obj.setdefault("spec", {})
    if resource.full in ("jobs.batch.volcano.sh", "jobsets.jobset.x-k8s.io", "podgroups.scheduling.volcano.sh"):
        warnings = _check_schema(resource, obj, lacks, strict)
    if resource.full == "jobs.batch.volcano.sh":
        _default_volcano(obj["spec"])
        if problems := list(_volcano_problems(obj, queues)):
            message = f'admission webhook "validatejob.volcano.sh" denied the request: {"; ".join(problems)};'
            raise refused(400, message, reason="")
    elif resource.full == "jobsets.jobset.x-k8s.io" and (problems := list(_jobset_problems(obj))):
        raise refused(403, f'admission webhook "vjobset.kb.io" denied the request: {"; ".join(problems)}')
    return warnings


def admit_change(resource: Resource, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuse changes of what may not change after creation."""
    _check_metadata(resource, new["metadata"])
    if resource.full == "jobs.batch.volcano.sh" and _fixed(old["spec"]) != _fixed(new["spec"]):
        message = "job updates may not change fields other than `minAvailable`, `tasks[*].replicas` under spec"
        raise refused(400, f'admission webhook "validatejob.volcano.sh" denied the request: {message}', reason="")


def _fixed(spec: dict[str, Any]) -> Any:
    tasks = [{key: value for key, value in task.items() if key != "replicas"} for task in spec["tasks"]]
    return {key: value for key, value in spec.items() if key not in MUTABLE}, tasks


def _check_metadata(resource: Resource, metadata: dict[str, Any]) -> None:
    name, labels = metadata.get("name", ""), metadata.get("labels") or {}
    causes = []
    if not name:
        causes.append(("FieldValueRequired", "metadata.name", "Required value: name or generateName is required"))
    elif len(name) > 253 or not DNS_SUBDOMAIN.fullmatch(name):
        message = f'Invalid value: "{name}": a lowercase RFC 1123 subdomain must consist of lower case characters'
        causes.append(("FieldValueInvalid", "metadata.name", message))
    for key, value in labels.items():
        for pattern, part in ((LABEL_KEY, key), (LABEL_VALUE, value)):
            if not pattern.fullmatch(str(part)):
                causes.append(
                    ("FieldValueInvalid", "metadata.labels", f'Invalid value: "{part}": no label, or too long')
                )
    annotations = metadata.get("annotations") or {}
    causes += [
        (
            "FieldValueInvalid",
            "metadata.annotations",
            f'Invalid value: "{key}": name part must consist of alphanumerics',
        )
        for key in annotations
        if not LABEL_KEY.fullmatch(key)
    ]
    if sum(len(key) + len(str(value)) for key, value in annotations.items()) > MAX_ANNOTATIONS:
        causes.append(("FieldValueTooLong", "metadata.annotations", "Too long: may not be more than 262144 bytes"))
    _refuse_causes(resource, name, causes)


def _check_schema(resource: Resource, obj: dict[str, Any], lacks: Collection[str], strict: bool) -> list[str]:
    errors = crd_schemas.errors(resource.kind, obj)
    unknown = [error for error in errors if error.validator == "additionalProperties"]
    warnings = [f'unknown field "{path}"' for error in unknown for path in _unknown_fields(error)]
    warnings += [f'unknown field "{path}"' for path in _dropped(obj, lacks, "")]
    if warnings and strict:
        like = f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}'
        raise refused(400, f"{like}: strict decoding error: {', '.join(warnings)}")
    for error in unknown:
        for key in set(error.instance) - set(error.schema["properties"]):
            del error.instance[key]
    errors = [error for error in errors if error not in unknown]
    causes = [
        (CAUSES.get(str(error.validator), "FieldValueInvalid"), error.json_path[2:], f"Invalid value: {error.message}")
        for error in errors
    ]
    _refuse_causes(resource, obj["metadata"]["name"], causes)
    return warnings


def _dropped(value: Any, lacks: Collection[str], path: str) -> Iterator[str]:
    """Paths of the fields of these names, which are gone afterwards."""
    items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, item in items:
        here = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}".lstrip(".")
        if key in lacks:
            del value[key]
            yield here
        else:
            yield from _dropped(item, lacks, here)


def _unknown_fields(error: ValidationError) -> list[str]:
    known = error.schema["properties"]
    return [f"{error.json_path}.{key}".removeprefix("$.") for key in error.instance if key not in known]


def _refuse_causes(resource: Resource, name: str, causes: list[tuple[str, str, str]]) -> None:
    if causes:
        said = [f"{field}: {message}" for _, field, message in causes]
        message = f'{resource.kind}.{resource.group} "{name}" is invalid: {said[0] if len(said) == 1 else said}'
        told = [{"reason": reason, "message": message, "field": field} for reason, field, message in causes]
        raise refused(422, message, "Invalid", name=name, group=resource.group, kind=resource.kind, causes=told)


def _default_volcano(spec: dict[str, Any]) -> None:
    tasks = spec.get("tasks", [])
    for number, task in enumerate(tasks):
        task.setdefault("replicas", 1)
        task["name"] = task.get("name") or f"default{number}"
        task.setdefault("minAvailable", task["replicas"])
        task.setdefault("maxRetry", 3)
    spec["queue"] = spec.get("queue") or "default"
    spec["schedulerName"] = spec.get("schedulerName") or "volcano"
    spec["maxRetry"] = spec.get("maxRetry") or 3
    spec["minAvailable"] = spec.get("minAvailable") or sum(task["minAvailable"] for task in tasks)


def _volcano_problems(job: dict[str, Any], queues: dict[str, str]) -> Iterator[str]:
    spec, name = job["spec"], job["metadata"]["name"]
    tasks = spec.get("tasks", [])
    names = [task["name"] for task in tasks]
    yield from (f"duplicated task name {name}" for name in sorted(set(names)) if names.count(name) > 1)
    for task in tasks:
        yield from _task_problems(name, task)
    if spec["minAvailable"] > sum(task["replicas"] for task in tasks):
        yield "job 'minAvailable' should not be greater than total replicas in tasks"
    yield from _policy_problems("spec.policies", spec.get("policies", []))
    yield from (f"unable to find job plugin: {plugin}" for plugin in spec.get("plugins", {}) if plugin not in PLUGINS)
    queue = spec["queue"]
    if queue not in queues:
        yield f'unable to find job queue: queue.scheduling.volcano.sh "{queue}" not found'
    elif queues[queue] != "Open":
        yield f"can only submit job to queue with state `Open`, queue `{queue}` status is `{queues[queue]}`"
    elif queue == "root":
        yield "can not submit job to root queue"


def _task_problems(job: str, task: dict[str, Any]) -> Iterator[str]:
    name, pod = task["name"], f"{job}-{task['name']}-{max(task['replicas'] - 1, 0)}"
    if task["minAvailable"] > task["replicas"]:
        yield f"'minAvailable' is greater than 'replicas' in task: {name}, job: {job}"
    if len(pod) > 63:
        yield f"create pod with name {pod} validate failed [name part must be no more than 63 characters]"
    yield from _policy_problems(f"task {name}: spec.task.policies", task.get("policies", []))
    yield from _pod_problems(f"spec.task[{name}].template", task["template"], ("Always", "OnFailure", "Never"))


def _policy_problems(where: str, policies: list[dict[str, Any]]) -> Iterator[str]:
    seen: list[Any] = []
    for policy in policies:
        events = [*policy.get("events", []), *([policy["event"]] if policy.get("event") else [])]
        code = policy.get("exitCode")
        if events and code is not None:
            yield f"{where}: must not specify event and exitCode simultaneously"
        elif not events and code is None:
            yield f"{where}: either event and exitCode should be specified"
        if code == 0:
            yield f"{where}: 0 is not a valid error code"
        keys = [*events, *([code] if code is not None else [])]
        yield from (f"{where}: duplicated {key}" for key in keys if key in seen)
        yield from (f"{where}: invalid policy event {event}" for event in events if event not in EVENTS)
        if policy.get("action") not in ACTIONS:
            yield f"{where}: invalid policy action {policy.get('action')}"
        if "PodPending" in events and not policy.get("timeout"):
            yield f"{where}: event PodPending needs a timeout"
        seen += keys
    if "*" in seen and len([key for key in seen if isinstance(key, str)]) > 1:
        yield f"{where}: if there's * here, no other policy should be here"


def _pod_problems(where: str, template: dict[str, Any], restart_policies: tuple[str, ...]) -> Iterator[str]:
    """What the API server has against every pod; the schema knows the shape alone."""
    pod, labels = template["spec"], template.get("metadata", {}).get("labels", {})
    if pod.get("restartPolicy", "Always") not in restart_policies:
        yield f"{where}.spec.restartPolicy: Unsupported value: {pod.get('restartPolicy', 'Always')!r}"
    yield from (
        f"{where}.metadata.labels: Invalid value: {v!r}" for v in labels.values() if not LABEL_VALUE.fullmatch(v)
    )
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        if not DNS_LABEL.fullmatch(container["name"]) or not container.get("image"):
            yield f"{where}.spec.containers[{container['name']}]: it needs a DNS label as name, and an image"
        mounts = [mount["name"] for mount in container.get("volumeMounts", [])]
        yield from (f"{where}: volumeMounts.name: Not found: {mount!r}" for mount in mounts if mount not in volumes)
        limits, asks = (container.get("resources", {}).get(key, {}) for key in ("limits", "requests"))
        yield from (
            f"{where}: resources.requests: {key}: must be equal to its limit"
            for key in {*limits, *asks}
            if "/" in key and limits.get(key) != asks.get(key, limits.get(key))
        )


def _jobset_problems(jobset: dict[str, Any]) -> Iterator[str]:
    name, spec = jobset["metadata"]["name"], jobset["spec"]
    replicated = spec.get("replicatedJobs", [])
    names = [job["name"] for job in replicated]
    for job in replicated:
        inner, where = job["template"]["spec"], f"spec.replicatedJobs[{job['name']}]"
        pod = f"{name}-{job['name']}-{job.get('replicas', 1) - 1}-{inner.get('parallelism', 1) - 1}-xxxxx"
        if not DNS_LABEL.fullmatch(job["name"]):
            yield f"{where}.name: a lowercase RFC 1123 label must consist of lower case characters"
        if len(pod) > 63:
            yield f"{where}: the name of its pods would be longer than 63 characters: {pod}"
        yield from _pod_problems(f"{where}.template.spec.template", inner["template"], ("OnFailure", "Never"))
        policy = inner.get("podFailurePolicy", {})
        if policy and inner["template"]["spec"].get("restartPolicy") != "Never":
            yield f'{where}: only "Never" is allowed for restartPolicy when podFailurePolicy is specified'
        for rule in policy.get("rules", []):
            codes = rule.get("onExitCodes", {})
            if bool(codes) == bool(rule.get("onPodConditions")):
                yield f"{where}: specifying one of OnExitCodes and OnPodConditions is required"
            if codes.get("operator") == "In" and 0 in codes["values"]:
                yield f"{where}: onExitCodes.values: must not be 0 for the In operator"
    rules = spec.get("failurePolicy", {}).get("rules", [])
    targets = {target for rule in rules for target in rule.get("targetReplicatedJobs", [])}
    yield from (f"invalid replicatedJob name '{target}' in failure policy" for target in sorted(targets - set(names)))
    if len({rule.get("name") for rule in rules if rule.get("name")}) < len(
        [rule for rule in rules if rule.get("name")]
    ):
        yield "rule names are not unique"
