"""What is known of a run in, one sentence out: what came of it, as whoever waited for it wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip.errors import HQClipError
from hqclip.log import REASON
from pipelines.client.connect import Kubeflow
from pipelines.client.find import ENDED, cancelled_at, parameters_of
from pipelines.client.reasons import Reason
from pipelines.client.task_logs import our_lines, read_log
from pipelines.client.tasks import Task, Told

_DECIDE = ("promote", "select", "evaluate", "curate", "plan", "sweep", "plan_evaluation")  # whose word counts, in order


def outcome(kubeflow: Kubeflow, told: Told, reasons: Sequence[Reason]) -> str:
    """Promoted or not, nothing to do, kept out by whom, failed at which task, cancelled, or how far it is.

    `reasons` are those of `explain`. Where no task wrote down what it decided, the log of the one that did is read.
    """
    under_way = [task.name for task in told.tasks if task.state in ("RUNNING", "CANCELED")]
    if told.state == "CANCELED":
        when = cancelled_at(told.run)
        at = f" at {when:%Y-%m-%d %H:%M:%S} UTC" if when else ""
        while_ = f", while {_several(under_way)} under way" if under_way else ""
        return f"cancelled{at}{while_}; what was finished is kept{f'; {_failed(reasons[0])}' if reasons else ''}"
    if told.state == "FAILED":
        return _failed(reasons[0]) if reasons else "it failed, and Kubeflow names no task that did"
    if told.state not in ENDED:
        done = sum(task.state in ENDED for task in told.tasks)
        how_far = f"{', '.join(under_way)} under way" if under_way else f"{done} of {len(told.tasks)} tasks ended"
        return f"it is not over: {how_far}{f'; {_failed(reasons[0])}' if reasons else ''}"
    return _decided(told) or _logged(kubeflow, told) or "it succeeded; what was decided is neither recorded nor logged"


def page(told: Told) -> str:
    """Where the report of the run is; empty if it made none, or nobody says."""
    decided = next((word for word in _words(told) if word.get("report")), None)
    store = str(parameters_of(told.run).get("store") or "").rstrip("/")
    return f"{store}/{decided['report']}" if decided else ""


def _decided(told: Told) -> str:
    return next((text for word in _words(told) if (text := _sentence(word))), "")


def _words(told: Told) -> list[Mapping[str, Any]]:
    """What tasks decided, the weightiest first; that there was work says nothing of what came of it."""
    by_stage = {record.stage: record.decided for record in told.records if not record.decided.get("has_work")}
    order = (*_DECIDE[:3], "finish", *_DECIDE[3:])  # finish sums up what the others say
    return [by_stage[stage] for stage in order if stage in by_stage]


def _sentence(decided: Mapping[str, Any]) -> str:
    """`promoted: raw is 2.1 points better than ...`: the verdict, and why."""
    verdict, reason = str(decided.get("verdict") or ""), str(decided.get("reason") or "")
    return f"{verdict}: {reason}" if verdict and reason else verdict or reason


def _logged(kubeflow: Kubeflow, told: Told) -> str:
    """What the task that decides said last, if its log is left."""
    told_by = {
        task.stage.replace("-", "_"): task for task in told.tasks if task.state == "SUCCEEDED" and not task.trial
    }
    first = next((told_by[stage] for stage in _DECIDE if stage in told_by), None)
    said = _last_words(kubeflow, told, first) if first else ""
    worked = [task for task in told.tasks if task.attempts and not task.is_last]
    if said or first is None or len(worked) > 1:
        return said
    return f"nothing ran after {first.name}: there was nothing to do, or another run was at work; its log is gone"


def _last_words(kubeflow: Kubeflow, told: Told, task: Task) -> str:
    last = task.last
    if last is None:
        return ""
    try:
        lines = our_lines(read_log(kubeflow, told.run.run_id, last.pod, last.node))
    except HQClipError:
        return ""
    matches = [match[0] for line in lines if (match := REASON.search(line))]
    return matches[-1].partition(": ")[2] if matches else ""


def _failed(reason: Reason) -> str:
    code = "" if reason.exit_code is None else f", exit code {reason.exit_code}"
    what = "failed at" if reason.state == "FAILED" else "held up at"
    return f"{what} {reason.task} ({reason.reason}{code}): {reason.line}"


def _several(names: list[str]) -> str:
    return f"{', '.join(names)} {'was' if len(names) == 1 else 'were'}"
