"""`python -m pipelines explain`: which task of a run failed, why, and which command is next."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hqclip.errors import HQClipError
from hqclip.log import REASON
from hqclip.stages import LAUNCHABLE
from hqclip.task_records import REASONS
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow
from pipelines.client.output import say, show
from pipelines.client.pods import Pod, lines_of, open_cluster, pods_of
from pipelines.client.tasks import Task, add_run_argument, find_run, is_launched, parameters_of, state_of, tasks_of

TAIL = 200  # last lines of a pod that are looked through
# what a message has in it -> what kind of reason that is; the first that fits
_SIGNS = (
    (r"OOMKilled|out of memory|OutOfMemory|exit(ed with)? code:? 137", "out_of_memory"),
    (r"ImagePull|ErrImage|InvalidImageName|pull image", "image"),
    (r"Evicted|[Pp]reempt|node .*(lost|shutdown)|pod deleted|NodeLost", "machine_lost"),
    (r"Unschedulable|Insufficient|exceeded quota|0/\d+ nodes", "no_machines"),
    (r"exceeded its deadline|DeadlineExceeded|active deadline", "timeout"),
)
ADVICE = {
    "out_of_memory": "smaller batches (plan_overrides), or more memory for the task",
    "image": "check name, tag and pull secret of the image",
    "machine_lost": "run it again: what was finished is kept",
    "no_machines": "wait, or ask for other machines or a larger quota",
    "timeout": "somebody cancelled it, or it needs a longer limit; what was finished is kept",
    "setting": "mend the setting; `run ... --dry-run` shows what is sent",
    "data": "look at the data named; the limits for what may be bad are settings",
    "not_found": "check the name: it does not exist, or the service account cannot see it",
    "service": "run it again once the service answers: what was finished is kept",
    "crash_loop": "read the log of the first attempt: trying again does not help",
    "conflict": "another run holds the place; nothing was overwritten",
    "storage": "check quota and health of the store, then run it again",
    "stopped": "run it again: what was finished is kept",
    "access": "grant the service account of the run what it names",
    "software": "use the image made for this stage",
    "bug": "read the whole log; if it is hqclip's fault, report the traceback",
    "unknown": "read the whole log",
}
_RAISED = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt|Exit)\b.*")
_CODE = re.compile(r"exit(?:ed with)? code:? (\d+)|exit status (\d+)")
_STATUS = re.compile(r"exit status (\d+)")


@dataclass(frozen=True)
class Reason:
    """Why a task failed: its kind, the line that tells most, and what to do."""

    task: str
    state: str
    reason: str
    line: str
    advice: str
    next: str


def explain(kubeflow: Kubeflow, run: Any) -> list[Reason]:
    """The tasks that broke a run, the first to end first; those that only hold a broken one are left out."""
    broken = failed_tasks(run)
    seen = _look_at_pods(kubeflow, run, broken)
    return [_reason(run, task, *seen.get(task.id, (None, []))) for task in broken]


def failed_tasks(run: Any) -> list[Task]:
    """Tasks that failed by themselves."""
    failed = [task for task in tasks_of(run) if task.state == "FAILED"]
    holders = {task.parent for task in failed}
    return sorted(
        (task for task in failed if task.id not in holders),
        key=lambda task: (task.ended is None, task.ended and task.ended.timestamp()),
    )


def say_why(kubeflow: Kubeflow, run: Any) -> None:
    """Tell a person, on stderr."""
    reasons = explain(kubeflow, run)
    for reason in reasons:
        say(f"{reason.task} failed ({reason.reason}): {reason.line}\n  {reason.advice}\n  next: {reason.next}")
    if not reasons:
        said = (run.error and run.error.message) or "Kubeflow names no task that failed"
        say(f"run {run.run_id}: {said}; {kubeflow.link('runs', run.run_id)}")


def kind_of(texts: Sequence[str], exit_code: int | None) -> str:
    """What kind of reason messages and an exit code are."""
    text = "\n".join(texts)
    for pattern, kind in _SIGNS:
        if re.search(pattern, text):
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
            if match := pattern.search(line):
                return match[0]
    return kept[-1] if kept else ""


def _look_at_pods(kubeflow: Kubeflow, run: Any, broken: Sequence[Task]) -> dict[str, tuple[Pod, list[str]]]:
    """By task, the last pod that is left of it, and its last lines; nothing where Kubernetes cannot be reached."""
    seen: dict[str, tuple[Pod, list[str]]] = {}
    if not broken:
        return seen
    try:
        cluster = open_cluster(kubeflow)
        pods = [pod for pod in pods_of(cluster, run) if pod.is_ours]
        for task in broken:
            for pod in [pod for pod in pods if pod.name in task.pods][-1:]:
                seen[task.id] = pod, []
                seen[task.id] = pod, list(lines_of(cluster, pod, TAIL))
    except HQClipError as error:
        say(f"pods were not looked at: {error}")
    return seen


def _exit_code(pod: Pod | None, log: Sequence[str]) -> int | None:
    """What the stage ended with: Kubeflow's launcher, which runs it, ends with 1 itself, and says in the log why."""
    if pod is None or pod.exit_code != 1:
        return pod.exit_code if pod else None
    told = [int(code) for line in log for code in _STATUS.findall(line)]
    return told[-1] if told else 1


def _reason(run: Any, task: Task, pod: Pod | None, log: Sequence[str]) -> Reason:
    ended = [pod.reason, pod.message] if pod else []
    kind = kind_of([task.error, *ended], _exit_code(pod, log))
    line = telling_line(log) or telling_line([*ended, *task.error.splitlines()])
    if kind == "unknown":
        kind = kind_of([line], None)
    if kind == "bug" and not log:
        kind = "unknown"  # every fault looks like that from outside
    command = f"python -m pipelines logs {run.run_id} --task {task.name}"
    advice = ADVICE[kind]
    if is_launched(run) and task.name in LAUNCHABLE:
        command = f"hqclip jobs list, then hqclip jobs logs --job JOB ({run.run_id} is its launch_id)"
        store = parameters_of(run).get("store", "the store")
        advice += f"; every end of its pods is in {store}/launch/"
    return Reason(task.name, task.state, kind, line or "it said nothing", advice, command)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_run_argument(parser)
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Reasons as rows; nothing to explain is said, too."""
    kubeflow = connect.connect(given)
    found = find_run(kubeflow, given.run)
    if given.output == "table":
        if state_of(found) == "FAILED" or failed_tasks(found):
            for number, reason in enumerate(explain(kubeflow, found)):
                print(end="\n" if number else "")
                show(asdict(reason))
        if not failed_tasks(found):
            said = (found.error and found.error.message) or "no task of it failed"
            print(f"run {found.run_id} is {state_of(found)}: {said}")
        return 0
    reasons = [asdict(reason) for reason in explain(kubeflow, found)]
    show({"run_id": found.run_id, "state": state_of(found), "reasons": reasons}, given.output)
    return 0
