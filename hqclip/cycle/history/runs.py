"""The records of one pipeline run in, what the history tells of it out: how it ended, what was tried again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip.cycle.history.documents import MALFORMED, Documents, whole
from hqclip.report.history import PastRun
from hqclip.store import Store
from hqclip.task_records import TaskRecord

FINISH = "finish"
SILENT = "no exit task said how it ended"


def read_run(store: Store, run: str, keys: Sequence[str]) -> PastRun:
    """What `keys`, all that the tasks of a run told, say of it; `run` is the folder. Kubernetes is not asked."""
    documents = Documents(store)
    try:
        read = [documents.manifest(key, TaskRecord) for key in keys]
        records = sorted((record for record in read if record), key=lambda record: float(record.started))
        told = _told(records) if records else PastRun(run=run, began=0.0, reason="none of its records can be read")
    except MALFORMED as error:
        documents.problems.append(f"pipelines/{run}: damaged ({error!r})")
        told = PastRun(run=run, began=0.0, reason="its records are damaged")
    return PastRun(**{**vars(told), "problems": tuple(documents.problems)})


def _told(records: Sequence[TaskRecord]) -> PastRun:
    decided = {record.stage: record.decided for record in records if record.exit_code == 0}
    plan = decided.get("plan", {})
    outcome, reason = _outcome(records, decided)
    ends = [float(record.ended) for record in records if record.ended is not None]
    return PastRun(
        run=str(records[0].run),
        began=float(records[0].started),
        ended=max(ends, default=None),
        cycle=(whole(plan.get("cycle")) or 0) if plan.get("has_work") else 0,
        outcome=outcome,
        reason=reason,
        worked=sum(_seconds(record) for record in records),
        lost=sum(_seconds(record) for record in records if record.exit_code != 0),
        retries=tuple(_retries(records)),
    )


def _outcome(records: Sequence[TaskRecord], decided: Mapping[str, Mapping[str, Any]]) -> tuple[str, str]:
    """As the exit task said it; without one by what the others did."""
    said, plan = decided.get(FINISH, {}), decided.get("plan")
    if said.get("outcome"):
        return str(said["outcome"]), str(said.get("reason", ""))
    if plan and not plan.get("has_work"):
        return "locked" if plan.get("locked_by") else "nothing_to_do", str(plan.get("reason", ""))
    if "promote" in decided:
        return "succeeded", str(decided["promote"].get("reason", ""))
    failed = next((f"{record.task}: {record.error}" for record in records if record.failed), "")
    return "", f"{SILENT}; {failed}" if failed else SILENT


def _retries(records: Sequence[TaskRecord]) -> list[str]:
    """Tasks with several attempts, and launched jobs that began again, with why."""
    by_task: dict[str, list[TaskRecord]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    said = []
    for task, tries in by_task.items():
        why = next((one.error or "killed without a word" for one in tries if one.exit_code != 0), "")
        if len(tries) > 1:
            said.append(f"{task}: {len(tries)} attempts" + (f"; {why}" if why else ""))
        begun = max((whole(one.job.get("attempts")) or 0 for one in tries), default=0)
        if begun > 1:
            said.append(f"{task}: its job began {begun} times")
    return said


def _seconds(record: TaskRecord) -> float:
    return max(float(record.ended) - float(record.started), 0.0) if record.ended is not None else 0.0
