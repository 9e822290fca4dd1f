"""Records of the tasks of a run, as they would have been written."""

from __future__ import annotations

from typing import Any

from hqclip.stages import CYCLE
from hqclip.store import Store
from hqclip.task_records import REASONS, TaskRecord, write_record


def tell(store: Store, run: str, stage: str, at: float, exit_code: int | None = 0, **more: Any) -> None:
    """A record of one attempt that began then and took a second; with None it has no end."""
    ended = None if exit_code is None else at + 1.0
    reason = REASONS[exit_code] if exit_code else ""
    given = {"run": run, "stage": stage, "started": at, "ended": ended, "exit_code": exit_code, "reason": reason}
    write_record(store, TaskRecord(**{"pod": f"p-{at:.0f}", **given, **more}))


def all_well(store: Store, run: str, trials: tuple[str, ...] = (), until: str = "") -> str:
    """Every task of a cycle up to a stage ended well, one after the other from 100 s; the name of the run."""
    plan = {"has_work": True, "reason": "cycle 1 has work", "cycle": 1, "trials": list(trials), "locked_by": ""}
    tasks = [("plan", "")]
    for stage in CYCLE if trials else CYCLE[: CYCLE.index("train")]:
        tasks += [(stage, trial) for trial in trials] if stage in ("train", "evaluate") else [(stage, "")]
    decided: dict[str, Any] = {"plan": plan, "curate": {"dataset": "datasets/d/dataset.json"}}
    decided["promote"] = {"verdict": "promoted", "reason": "average 50.0% against 40.0%"}
    for number, (stage, trial) in enumerate(tasks):
        if stage == until:
            break
        tell(store, run, stage, 100.0 + 10 * number, trial=trial, decided=decided.get(stage, {}))
    return run
