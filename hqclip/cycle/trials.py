"""Trials that fail: what is kept of them, so that one takes neither the others nor their report with it.

Kubeflow leaves out everything that follows a loop of which one turn failed. So the tasks of a trial end well there, and
leave here why it has no model or no scores. The stage that compares the trials reads that, ranks the others, and ends
with the exit code of the first that failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypedDict

from hqclip import log
from hqclip.errors import DataError, HQClipError, TerminatedError, TrialsFailedError
from hqclip.records import Evaluation, FailedTrial
from hqclip.store import Store, open_store
from hqclip.store.documents import read_if_there, read_json_or_warn
from hqclip.task_records import REASONS

STAGES = ("train", "evaluate")  # what runs once a trial
STOPPED = (130, TerminatedError.exit_code)  # from outside: the pod fails, and runs again


def attempt(
    run: Callable[[], dict[str, Any]],
    stage: str,
    planned: Mapping[str, Any],
    *,
    before: Mapping[str, Any],
    trial: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The result of `run`, a stage of one trial of those `planned`; what went wrong under `failed` if it failed.

    `before` is the result of the stage before, `trial` the training run in turn if that does not tell. Raised is what
    stopped the stage from outside, and what `run` raises where there is no other trial.
    """
    if "failed" in before:
        log.info(stage, f"nothing to do: {before['reason']}")
        return dict(before)
    run_name = str(before.get("model", "")).removeprefix("runs/").partition("/")[0]
    name = str(trial["name"]) if trial else run_name.removeprefix(planned["runs"])
    if name not in [each["name"] for each in planned.get("trials", ())]:
        return run()
    store, key = open_store(planned["settings"][stage]["store"]), _key(planned["notes"], name)
    try:
        result = run()
    except (Exception, SystemExit) as end:
        failed = _failure(stage, name, end)
        if failed.exit_code in STOPPED:
            raise
        if not isinstance(end, SystemExit):
            traceback.print_exc()  # a bug keeps it
        store.write(key, failed.to_json(), create_only=False)
        reason = f"trial {name} failed in {stage} (exit code {failed.exit_code})"
        log.warning(stage, f"{reason}; the others go on, and the task that compares them ends with this code")
        return {"failed": vars(failed), "reason": reason}
    store.delete(key)  # of an earlier try
    return result


def _failure(stage: str, trial: str, end: BaseException) -> FailedTrial:
    """What the end of a task says: its exit code, and the fault that led to it, or the bug."""
    cause = end.__cause__ if isinstance(end, SystemExit) else end
    code = end.code if isinstance(end, SystemExit) else getattr(end, "exit_code", 1)
    exit_code = code if isinstance(code, int) else 1
    error = str(cause or end) if isinstance(cause, HQClipError | None) else f"{type(cause).__name__}: {cause}"
    reason = REASONS.get(exit_code, "bug")
    return FailedTrial(trial=trial, stage=stage, exit_code=exit_code, reason=reason, error=error)


def read_failed(store: Store, notes: str, trials: Iterable[Mapping[str, Any]]) -> list[FailedTrial]:
    """Those of the trials that failed when they were tried last, in their order."""
    keys = [_key(notes, trial["name"]) for trial in trials]
    return [failed for key in keys if (failed := read_if_there(store, key, FailedTrial))]


class _Note(TypedDict, total=False):
    evaluation: str


def noted_evaluations(store: Store, notes: str, trials: Iterable[Mapping[str, Any]]) -> list[str]:
    """The evaluations that the tasks of these trials noted, of those that did not fail since."""
    keys = [f"{notes}evaluate-{t['name']}.json" for t in trials if not store.exists(_key(notes, t["name"]))]
    said = [read_json_or_warn(store, key, "cycle", _Note) or {} for key in keys if store.exists(key)]
    return [note["evaluation"] for note in said if "evaluation" in note]


def read_evaluation(store: Store, key: str) -> Evaluation:
    """Of a whole suite. Raises `NotFoundError`, and `DataError` for one of a smoke run."""
    evaluation = Evaluation.from_json(store.read(key), key)
    if evaluation.limit:
        raise DataError(
            f"{key} is of a smoke run with {evaluation.limit} items of each set, which decides nothing; run `evaluate` "
            "without --limit"
        )
    return evaluation


def refuse_if_none(failed: Sequence[FailedTrial], evaluations: Sequence[str], where: str) -> None:
    """Raises `TrialsFailedError` if no trial is left to choose from, `DataError` if none was tried."""
    if not evaluations and failed:
        raise TrialsFailedError(
            f"{where}: none of its trials has scores: {_told(failed)}. Mend that, and start the same run again",
            failed[0].exit_code,
        )
    if not evaluations:
        raise DataError(f"{where}: none of its trials was evaluated; evaluate them first")


def check(result: Mapping[str, Any]) -> None:
    """Raises `TrialsFailedError` for a comparison from which trials are missing: all that was found is written."""
    failed = [FailedTrial(**one) for one in result.get("failed", ())]
    if failed:
        raise TrialsFailedError(
            f"{_told(failed)}. The others are compared: {result['reason']}; see {result['report']} in the store. "
            f"{result['again']}",
            failed[0].exit_code,
        )


def _told(failed: Sequence[FailedTrial]) -> str:
    each = [f"trial {one.trial} failed in {one.stage} (exit code {one.exit_code}): {one.error}" for one in failed]
    return "; ".join(each)


def _key(notes: str, trial: str) -> str:
    return f"{notes}failed/{trial}.json"
