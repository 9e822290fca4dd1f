"""What follows on what: which end starts a job again, which counts, which is for good, and when time is up."""

from __future__ import annotations

import re

import pytest

from hqclip.launch.exit_status import STOPPED
from hqclip.launch.job import PERMANENT
from hqclip.launch.registry import KUBERNETES
from tests.rendering import Json, indexed_job, order, rendered, template, worker


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def volcano_action(body: Json, event: str, exit_code: int = 0) -> str | None:
    """What Volcano does: the first policy that fits, by event or by exit code."""
    for policy in body["spec"]["policies"]:
        if event in (policy.get("event"), "*") or exit_code == policy.get("exitCode"):
            return str(policy["action"])
    return None


@pytest.mark.parametrize(("stage", "again"), [("train", "RestartJob"), ("annotate", "RestartPod")])
def test_volcano_ends_what_fails_for_good_and_tries_the_rest_again(stage: str, again: str) -> None:
    body = rendered("volcano", stage)
    assert {volcano_action(body, "PodFailed", code) for code in PERMANENT} == {"TerminateJob"}
    assert volcano_action(body, "PodFailed", STOPPED) == "AbortJob"
    assert {volcano_action(body, "PodFailed", code) for code in (0, 1, 69, 74, 137, 143)} == {again}
    assert volcano_action(body, "PodEvicted") == again
    assert volcano_action(body, "TaskCompleted") == "CompleteJob"
    assert volcano_action(body, "PodPending") is None


@pytest.mark.parametrize(("retries", "most"), [(0, 1), (1, 2), (3, 4)])
def test_volcano_counts_the_first_start_as_a_try(retries: int, most: int) -> None:
    assert rendered("volcano", retries=retries)["spec"]["maxRetry"] == most
    replicas = rendered("volcano", "annotate", nodes=5, retries=retries)
    assert replicas["spec"]["maxRetry"] == 5 * retries + 1


def test_a_gang_starts_whole_and_replicas_as_they_come() -> None:
    gang, replicas = rendered("volcano", nodes=4), rendered("volcano", "annotate", nodes=4)
    assert (gang["spec"]["minAvailable"], gang["spec"]["tasks"][0]["minAvailable"]) == (4, 4)
    assert (replicas["spec"]["minAvailable"], replicas["spec"]["tasks"][0]["minAvailable"]) == (1, 1)


def pod_failure(job: Json, exit_code: int, disrupted: bool = False) -> str:
    """What the Job controller does when a pod fails."""
    for rule in job["podFailurePolicy"]["rules"]:
        codes = rule.get("onExitCodes", {}).get("values", [])
        conditions = [condition["type"] for condition in rule.get("onPodConditions", [])]
        if exit_code in codes or (disrupted and "DisruptionTarget" in conditions):
            return str(rule["action"])
    return "Count"


def job_failure(body: Json, reason: str, message: str = "") -> str:
    """What the JobSet controller does when its Job fails; `again` is a restart that counts."""
    for rule in body["spec"]["failurePolicy"]["rules"]:
        patterns = rule.get("onJobFailureMessagePatterns", [""])
        if reason in rule["onJobFailureReasons"] and any(re.search(pattern, message) for pattern in patterns):
            return str(rule["action"])
    return "again"


BY_CODE = (
    "Container worker for pod training/train-node-0-1-x7k2p failed with exit code {} matching FailJob rule at index 0"
)
BY_LOSS = "Pod training/train-node-0-1-x7k2p has condition DisruptionTarget matching FailJob rule at index 1"


def test_a_preempted_gang_starts_again_without_counting() -> None:
    body = rendered("jobset", retries=2)
    job = indexed_job(body)
    assert pod_failure(job, 143) == pod_failure(job, 137, disrupted=True) == "FailJob"
    assert job_failure(body, "PodFailurePolicy", BY_LOSS) == "RestartJobSetAndIgnoreMaxRestarts"
    others = job_failure(body, "PodFailurePolicy", BY_CODE.format(143))
    assert others == "RestartJobSetAndIgnoreMaxRestarts", (
        "the other pods stop with a checkpoint, but were not disrupted"
    )


def test_a_gang_that_failed_for_good_is_not_started_again() -> None:
    body = rendered("jobset", retries=2)
    for code in (*PERMANENT, STOPPED):
        assert pod_failure(indexed_job(body), code, disrupted=True) == "FailJob"
        assert job_failure(body, "PodFailurePolicy", BY_CODE.format(code)) == "FailJobSet"


def test_a_broken_gang_is_one_failure_however_many_pods_it_has() -> None:
    body = rendered("jobset", retries=2, nodes=4)
    job = indexed_job(body)
    assert pod_failure(job, 1) == pod_failure(job, 137) == "Count"
    assert job["backoffLimit"] == 0 and "backoffLimitPerIndex" not in job
    assert job_failure(body, "BackoffLimitExceeded", "Job has reached the specified backoff limit") == "again"
    assert body["spec"]["failurePolicy"]["maxRestarts"] == 2
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (4, 4, "Indexed")


def test_a_replica_is_tried_again_by_itself_and_not_counted_when_preempted() -> None:
    body = rendered("jobset", "annotate", nodes=4, retries=2)
    job = indexed_job(body)
    assert job["backoffLimitPerIndex"] == 2 and "backoffLimit" not in job
    assert job["completionMode"] == "Indexed", "which backoffLimitPerIndex needs"
    assert pod_failure(job, 1) == "Count" and pod_failure(job, 143, disrupted=True) == "Ignore"
    assert pod_failure(job, 65) == "FailJob"
    assert job_failure(body, "PodFailurePolicy", BY_CODE.format(65)) == "FailJobSet"
    assert body["spec"]["failurePolicy"]["maxRestarts"] == 0, "restarting the set would end the other replicas"


def test_the_rules_for_pods_are_written_as_the_job_controller_wants_them(scheduler: str) -> None:
    for stage in ("train", "annotate"):
        body = rendered(scheduler, stage)
        assert template(body)["spec"]["restartPolicy"] == "Never"
        if scheduler == "jobset":
            codes = indexed_job(body)["podFailurePolicy"]["rules"][0]["onExitCodes"]
            assert codes["values"] == sorted(set(codes["values"])) and 0 not in codes["values"]
            assert codes["containerName"] == worker(body)["name"]


@pytest.mark.parametrize(("asked", "seconds"), [(0, None), (0.5, 1), (3600, 3600)])
def test_who_outlives_the_launcher_is_ended_by_kubernetes(asked: float, seconds: int | None) -> None:
    body = rendered("jobset", running_timeout_s=asked)
    assert indexed_job(body).get("activeDeadlineSeconds") == seconds
    assert "activeDeadlineSeconds" not in template(body)["spec"], "the Job would not say that time was up"
    assert job_failure(body, "DeadlineExceeded", "Job was active longer than specified deadline") == "FailJobSet"
    pods = template(rendered("volcano", running_timeout_s=asked))["spec"]
    assert pods.get("activeDeadlineSeconds") == seconds


def test_there_is_time_to_write_down_what_happened_before_the_pod_is_killed(scheduler: str) -> None:
    made = order(scheduler, grace_s=60)
    body = made.body
    assert template(body)["spec"]["terminationGracePeriodSeconds"] == 60 > made.job.shutdown_s
