"""A run in; the tasks that broke it or hold it up out, the first first: why, what to do, and which command is next.

What the task said of itself in the store comes first; then its log, live or archived; then what Kubeflow says of its
pod. It is the same a day later, when pods and workflow are gone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hqclip.errors import HQClipError, NotFoundError
from hqclip.log import REASON
from hqclip.stages import LAUNCHABLE
from hqclip.task_records import NOT_RECORDED, REASONS
from pipelines.client.connect import Kubeflow
from pipelines.client.find import ENDED, is_launched, parameters_of
from pipelines.client.output import say
from pipelines.client.pods import what_holds_back
from pipelines.client.task_logs import driver_fault, exit_status, our_lines, read_log
from pipelines.client.tasks import Attempt, Task, Told

# what a message has in it -> what kind of reason that is; the first that fits
_SIGNS = (
    (r"violates PodSecurity", "pod_security"),
    (r"^(wait|init): ", "kubeflow"),
    (r"failed calling webhook", "webhook"),
    (r"CreateContainerConfigError|(secret|configmap)s? \"?[\w.-]+\"? not found", "missing_secret"),
    (r"OOMKilled|out of memory|OutOfMemory|exit(ed with)? code:? 137", "out_of_memory"),
    (r"ImagePull|ErrImage|InvalidImageName|pull image", "image"),
    (r"Evicted|[Pp]reempt|node .*(lost|shutdown)|pod deleted|NodeLost", "machine_lost"),
    (r"Unschedulable|Insufficient|exceeded quota|0/\d+ nodes", "no_machines"),
    (r"exceeded its deadline|DeadlineExceeded|active deadline", "timeout"),
    (r"is forbidden", "access"),
)
ADVICE = {
    "pod_security": "the namespace lets no such pods in: upload the pipeline again with this release, or take another",
    "missing_secret": "make the secret or config map that is named, in the namespace of the run; its pod waits for it",
    "kubeflow": "Kubeflow could not bring or keep what belongs to the pod: check its own object store",
    "webhook": "the cluster takes no pods while this webhook is down: start it, then run it again",
    "refused": "Kubeflow refused what the pipeline hands to this task: upload the pipeline again with this release",
    "out_of_memory": "smaller batches (plan_overrides), or more memory for the task",
    "image": "check name, tag and pull secret of the image",
    "machine_lost": "run it again: what was finished is kept",
    "no_machines": "wait, or ask for other machines or a larger quota",
    "timeout": "it needs a longer limit; what was finished is kept",
    "setting": "mend the setting; `run ... --dry-run` shows what is sent",
    "data": "mend what it names; the limits for what may be bad are settings",
    "not_found": "check the name: it does not exist, or the service account cannot see it",
    "service": "check the name that it was asked for; if that is right, run it again once the service answers",
    "crash_loop": "read the log of the first attempt: trying again does not help",
    "conflict": "another run holds the place; nothing was overwritten",
    "storage": "check quota and health of the store, then run it again",
    "stopped": "run it again: what was finished is kept",
    "budget": "give a larger budget (plan_budget, plan_budget_dollars) to go on from what is kept, or ask for less",
    "access": "grant the service account of the run what it names",
    "software": "use the image made for this stage",
    "bug": "read the whole log; if it is hqclip's fault, report the traceback",
    "unknown": "read the whole log",
}
_WAITING = {
    "pod_security",
    "missing_secret",
    "image",
    "no_machines",
    "access",
    "webhook",
}  # kinds that keep a pod from running
_LAUNCHED = "hqclip launch: "  # how a task speaks that has started a job
_RAISED = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b.*")
_CODE = re.compile(r"exit(?:ed with)? code:? (\d+)|exit status (\d+)")


@dataclass(frozen=True)
class Reason:
    """Why a task failed, or cannot begin: its kind, the line that tells most, what to do, and a command to paste."""

    task: str
    state: str
    attempts: int
    exit_code: int | None
    reason: str
    line: str
    advice: str
    next: str


def explain(kubeflow: Kubeflow, told: Told) -> list[Reason]:
    """The tasks that broke a run or hold it up, the first first."""
    return [_reason(kubeflow, told, task) for task in broken_tasks(told)]


def broken_tasks(told: Told) -> list[Task]:
    """Tasks that failed, the first to end first, before what runs at the very end; else those that cannot begin."""
    failed = [task for task in told.tasks if task.state == "FAILED"]
    return sorted(
        failed or [task for task in told.tasks if _is_held_up(task)],
        key=lambda task: (task.is_last, task.ended is None, task.ended and task.ended.timestamp()),
    )


def kind_of(texts: Sequence[str], exit_code: int | None) -> str:
    """What kind of reason messages and an exit code are."""
    text = "\n".join(texts)
    for pattern, kind in _SIGNS:
        if re.search(pattern, text, re.MULTILINE):
            return kind
    if exit_code is None and (match := _CODE.search(text)):
        exit_code = int(match[1] or match[2])
    if exit_code in (None, 0):
        return "unknown"
    return REASONS.get(exit_code or 0, "unknown")


def telling_line(lines: Iterable[str]) -> str:
    """Of all lines, what this project says about its fault, else what was raised, else the last."""
    kept = [line.strip() for line in lines if line.strip()]
    for pattern in (REASON, _RAISED):
        for line in reversed(kept):
            if (match := pattern.search(line)) and NOT_RECORDED not in line:  # which follows from the fault itself
                return match[0]
    return kept[-1] if kept else ""


def _is_held_up(task: Task) -> bool:
    """Whether pods of it cannot be made or started, though nobody calls that a failure."""
    tried = [attempt for attempt in task.attempts if attempt.exit_code is None]
    return not task.record and any(kind_of([attempt.message], None) in _WAITING for attempt in tried)


def _reason(kubeflow: Kubeflow, told: Told, task: Task) -> Reason:
    attempt = _telling_attempt(task)
    log = _log(kubeflow, told, attempt)
    record = attempt.record
    fault = driver_fault(log) if attempt.is_driver else ""
    ours = [] if attempt.is_driver else our_lines(log)
    code = _exit_code(attempt, log)
    held = "" if log or attempt.message or record else what_holds_back(kubeflow, attempt.pod)
    message = attempt.message or held
    line = (record.error if record else "") or fault or telling_line(ours) or message
    kind = "refused" if fault else (record.reason if record else "") or kind_of([message], code)
    if kind in ("unknown", "bug"):
        kind = next((found for found in [kind_of([line], None)] if found != "unknown"), kind)
    if kind == "bug" and not ours and not record:
        kind = "unknown"  # every fault looks like that from outside
    return Reason(
        task=task.name,
        state=task.state,
        attempts=len(task.attempts),
        exit_code=code,
        reason=kind,
        line=line or "it said nothing",
        advice=_advice(told.run, task, kind, ours),
        next=_next(kubeflow, told, task, kind, bool(ours)),
    )


def _telling_attempt(task: Task) -> Attempt:
    """The one that says why: the last that failed by itself, else the last of all."""
    tried = [*task.drivers, *task.attempts]
    failed = [each for each in tried if each.state == "FAILED" and kind_of([each.message], None) != "timeout"]
    return (failed or tried or [Attempt("", "", task.state)])[-1]


def _log(kubeflow: Kubeflow, told: Told, attempt: Attempt) -> list[str]:
    if not (attempt.pod or attempt.node) or (attempt.record and attempt.record.error):
        return []
    try:
        return read_log(kubeflow, told.run.run_id, attempt.pod, attempt.node)
    except HQClipError as error:
        if not isinstance(error, NotFoundError):
            say(f"the log was not looked at: {error}")
        return []


def _exit_code(attempt: Attempt, log: Sequence[str]) -> int | None:
    """What the stage ended with: Kubeflow's launcher, which runs it, ends with 1 itself, and says in the log why."""
    if attempt.is_driver:
        return None
    return attempt.exit_code if attempt.exit_code not in (None, 1) else exit_status(log) or attempt.exit_code


def _advice(run: Any, task: Task, kind: str, lines: Sequence[str]) -> str:
    advice = ADVICE.get(kind, ADVICE["unknown"])
    job = str((task.record.job if task.record else {}).get("name", ""))
    if is_launched(run) and task.stage in LAUNCHABLE and (job or any(line.startswith(_LAUNCHED) for line in lines)):
        store = parameters_of(run).get("store", "the store")
        advice += f"; every end of the pods of its job{job and f' {job}'} is in {store}/launch/"
    return advice


def _next(kubeflow: Kubeflow, told: Told, task: Task, kind: str, has_log: bool) -> str:
    if told.state not in ENDED and kind in _WAITING:
        return kubeflow.command("cancel", told.run.run_id)
    if kind == "refused":
        return "python -m pipelines lint"
    if kind in _WAITING:
        return kubeflow.command("doctor")
    if not (has_log or task.record):
        return kubeflow.command("status", told.run.run_id)
    return kubeflow.command("logs", told.run.run_id, "--task", task.name)
