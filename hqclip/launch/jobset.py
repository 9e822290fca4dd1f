"""A spec and a job in, a JobSet out: jobset.x-k8s.io/v1alpha2, as a plain object; with Kueue where there is a queue."""

from __future__ import annotations

from hqclip.launch.exit_status import STOPPED, TERMINATED
from hqclip.launch.job import GANG, PERMANENT, Job
from hqclip.launch.naming import DIGEST, KEY
from hqclip.launch.patches import Json, apply_patches, read_patches
from hqclip.launch.pod import CONTAINER, Place, deadline_s, job_annotations, job_labels, pod_template
from hqclip.launch.spec import LaunchSpec

API, PLURAL = "jobset.x-k8s.io/v1alpha2", "jobsets"
REPLICATED = "node"


def render(spec: LaunchSpec, job: Job) -> Json:
    """The object that is created: one indexed Job of numbered pods, whose hosts have names known beforehand."""
    gang = job.shape == GANG
    rendezvous = f"{job.name}-{REPLICATED}-0-0.{job.name}:{spec.rendezvous_port}" if gang else ""
    place = Place(
        "metadata.annotations['batch.kubernetes.io/job-completion-index']",
        "metadata.annotations['jobset.sigs.k8s.io/restart-attempt']",
        rendezvous,
    )
    template = pod_template(spec, job, place)
    if spec.topology:
        template["metadata"]["annotations"][f"kueue.x-k8s.io/podset-{spec.topology_mode}-topology"] = spec.topology
    body: Json = {
        "apiVersion": API,
        "kind": "JobSet",
        "metadata": {
            "name": job.name,
            "labels": {**job_labels(spec, job), **({"kueue.x-k8s.io/queue-name": spec.queue} if spec.queue else {})},
            "annotations": {**job_annotations(spec, job), DIGEST: job.digest, KEY: job.key},
        },
        "spec": {
            "ttlSecondsAfterFinished": spec.ttl_s,
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": _failure_policy(spec, gang),
            "replicatedJobs": [
                {"name": REPLICATED, "replicas": 1, "template": {"spec": _indexed_job(spec, job, template)}}
            ],
        },
    }
    if spec.queue:
        body["spec"]["suspend"] = True  # Kueue lets it go when there is room
    return apply_patches("job", body, read_patches(spec.patches)[0])


def _indexed_job(spec: LaunchSpec, job: Job, template: Json) -> Json:
    """All pods of the job. One failed pod of a gang fails it at once; a replica is tried again by itself."""
    gang = job.shape == GANG
    indexed: Json = {
        "completionMode": "Indexed",
        "parallelism": job.nodes,
        "completions": job.nodes,
        "podFailurePolicy": {"rules": _pod_rules(gang)},
        "template": template,
    }
    if deadline_s(spec):
        indexed["activeDeadlineSeconds"] = deadline_s(spec)
    if gang:
        return {**indexed, "backoffLimit": 0}
    return {**indexed, "backoffLimitPerIndex": spec.retries}


def _pod_rules(gang: bool) -> list[Json]:
    """What ends the Job at once. Where one pod of a gang is preempted all stop, but only that one has the condition."""
    codes = [*PERMANENT, STOPPED, *([TERMINATED] if gang else [])]
    by_code = {
        "action": "FailJob",
        "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": sorted(codes)},
    }
    disrupted = {
        "action": "FailJob" if gang else "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    return [by_code, disrupted]


def _failure_policy(spec: LaunchSpec, gang: bool) -> Json:
    """Preemptions start the gang again without counting; what fails for good ends it; the rest counts.

    Both of the first two reach the JobSet as a PodFailurePolicy failure: the message of the Job controller tells
    them apart ("... failed with exit code 64 matching FailJob rule ...", "... has condition DisruptionTarget ...").
    """
    policy_failure = {"onJobFailureReasons": ["PodFailurePolicy"]}
    for_good = {
        "name": "forgood",
        "action": "FailJobSet",
        **policy_failure,
        "onJobFailureMessagePatterns": [".*failed with exit code.*"],
    }
    too_late = {"name": "toolate", "action": "FailJobSet", "onJobFailureReasons": ["DeadlineExceeded"]}
    if not gang:
        return {"maxRestarts": 0, "rules": [for_good, too_late]}
    preempted = {
        "name": "preempted",
        "action": "RestartJobSetAndIgnoreMaxRestarts",
        **policy_failure,
        "onJobFailureMessagePatterns": [
            ".*has condition DisruptionTarget.*",
            f".*failed with exit code {TERMINATED} .*",
        ],
    }
    return {"maxRestarts": spec.retries, "rules": [preempted, for_good, too_late]}
