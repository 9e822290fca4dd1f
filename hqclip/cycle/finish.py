"""How a pipeline run ended, in a sentence, by what its tasks told the store; whatever happened before.

Kubeflow's own word is not asked for: it is wrong for runs that fail before a task begins or have nothing to do, and a
task that wants it does not run in some cases. Only whether somebody ended the run is asked of its Workflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip.cycle.attempt import recorded, run_id
from hqclip.cycle.history.write import write_at_the_end
from hqclip.cycle.lock import owner_of, release
from hqclip.cycle.notices import decided_by, tell_end
from hqclip.cycle.run_state import was_cancelled
from hqclip.errors import HQClipError
from hqclip.records import Champion
from hqclip.stages import CYCLE
from hqclip.store import open_store
from hqclip.task_records import TaskRecord, read_records

STAGE = "finish"
SUCCEEDED, NOTHING, LOCKED = "succeeded", "nothing_to_do", "locked"
CANCELLED, FAILED, BUDGET = "cancelled", "failed", "budget"
TOLD_TO_END = (130, 143)  # exit codes of a task that was told to


def finish(store_uri: str, owner: str = "") -> str:
    """What a person wants to know first, and it is told to those who want to be; the lock of `owner` is free again.

    A store out of reach is no fault here.
    """
    run, records, store = run_id(owner), [], None
    with recorded(STAGE, store_uri, owner=owner) as attempt:
        try:
            store = open_store(store_uri)
            if owner_of(owner):
                release(store, owner_of(owner))
            records = [each for each in read_records(store, run) if each.stage != STAGE] if run else []
            ended = how_ended(records, run) if run else {}
            reason = str(ended.get("reason", "the run has no name, so nothing is known of it"))
            if ended.get("outcome") == SUCCEEDED and store.exists("champion.json"):
                champion = Champion.from_json(store.read("champion.json"), "champion.json")
                reason += f"; {champion.model} of cycle {champion.cycle} is in force"
        except HQClipError as error:
            ended, reason = {}, f"the run has ended, but not all is known of it: {error}"
        attempt.decides({"outcome": "", "task": "", **ended, "reason": reason})
    if store is not None and ended:
        tell_end(store, run, {**ended, "reason": reason}, decided_by(records))
        write_at_the_end(store)
    return reason


def how_ended(records: Sequence[TaskRecord], run: str) -> dict[str, Any]:
    """`outcome`, the `task` that broke first if one did, and a sentence, `reason`, by all attempts at all tasks."""
    by_task: dict[str, list[TaskRecord]] = {}
    for record in records:
        by_task.setdefault(record.task, []).append(record)
    broken = [told[-1] for told in by_task.values() if all(each.exit_code != 0 for each in told)]
    decided = {record.stage: record.decided for record in records if record.exit_code == 0}
    wanted = _wanted(decided.get("plan", {}))
    missing = next((task for task in wanted if task not in by_task), "")
    if wanted[-1] in by_task and not any(each.task == wanted[-1] for each in broken):
        return _well(decided, sorted(broken, key=_when))
    if records and was_cancelled(run):
        return _cancelled(run, sorted(broken, key=_when), "the run was cancelled")
    if over := [each for each in broken if each.reason == BUDGET]:
        first = min(over, key=_when)
        said = f"the run was stopped by its budget at {first.task}: {_why(first)}"
        return {**_badly(run, first.task, said), "outcome": BUDGET}
    if broken:
        first = min(broken, key=_when)
        if first.exit_code in TOLD_TO_END:
            return _cancelled(run, sorted(broken, key=_when), "the run was cancelled, or lost its machines")
        return _badly(run, first.task, f"the run failed at {first.task}: {_why(first)}")
    if not records:
        return _badly(run, missing, "the run was refused before its first task began")
    last = max(records, key=_when)
    said = f"the run failed: {missing} was refused before it began, after {last.task} had ended well"
    return _badly(run, missing, said)


def _wanted(plan: Mapping[str, Any]) -> list[str]:
    """The tasks of a cycle, in their order, as its plan decided."""
    if not plan.get("has_work"):
        return ["plan"]
    trials = plan["trials"] if isinstance(plan.get("trials"), list) else []
    judged = [f"{stage}-{trial}" for stage in ("train", "evaluate") for trial in trials]
    return ["plan", *CYCLE[: CYCLE.index("train")], *judged, *(["promote"] if trials else [])]


def _well(decided: Mapping[str, Mapping[str, Any]], broken: Sequence[TaskRecord]) -> dict[str, Any]:
    """Of a run whose last task ended well; one of its trials may have failed."""
    plan = decided["plan"]
    why = plan.get("reason") or "plan did not say why"
    if plan.get("locked_by"):
        return {"outcome": LOCKED, "reason": f"nothing was done, {why}"}
    if not plan.get("has_work"):
        return {"outcome": NOTHING, "reason": f"there was nothing to do: {why}"}
    last = decided.get("promote") or decided.get("curate") or {}
    said = [str(last[name]) for name in ("verdict", "reason", "dataset") if last.get(name)]
    failed = "".join(f"; {each.task} failed: {_why(each)}" for each in broken)
    return {"outcome": SUCCEEDED, "reason": ": ".join(["the run succeeded", *said]) + failed}


def _cancelled(run: str, broken: Sequence[TaskRecord], said: str) -> dict[str, Any]:
    """Of a run that was ended from outside; something in it may have failed before."""
    under_way = [each.task for each in broken if each.ended is None or each.exit_code in TOLD_TO_END]
    failed = "".join(f"; {each.task} failed: {_why(each)}" for each in broken if each.task not in under_way)
    while_ = f", while {' and '.join(under_way)} went on" if under_way else ""
    task = broken[0].task if broken else ""
    return {**_badly(run, task, f"{said}{while_}{failed}"), "outcome": CANCELLED}


def _badly(run: str, task: str, reason: str) -> dict[str, Any]:
    more = "" if run.startswith("local") else f"; `python -m pipelines explain {run}` says more"
    return {"outcome": FAILED, "task": task, "reason": f"{reason}{more}; the same run again continues from here"}


def _when(record: TaskRecord) -> float:
    return record.ended or record.started


def _why(record: TaskRecord) -> str:
    if record.ended is None:
        where = f"pod {record.pod} was" if record.pod else "it was"
        return f"{where} killed without a word: by Kubernetes for its memory, with its node, or by somebody"
    job = f" (job {record.job['name']})" if record.job.get("name") else ""
    return f"{record.error or record.reason}, exit code {record.exit_code}{job}"
