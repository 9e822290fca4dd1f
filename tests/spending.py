"""What tasks and agents have spent, as their records say."""

from __future__ import annotations

import json
from typing import Any

from hqclip.cycle.budget.spending import mark_run
from hqclip.launch import attempts
from hqclip.launch.exit_status import ExitStatus
from hqclip.store import Store
from hqclip.task_records import TaskRecord, write_record

HOUR = 3600.0


def spend(store: Store, notes: str, run: str, stage: str, *, hours: float, gpus: int = 1, **more: Any) -> None:
    """A task of this run that held GPUs for so long, from a thousand seconds after 1970."""
    mark_run(store, notes, run, {})
    given = {"started": 1000.0, "ended": 1000.0 + hours * HOUR, "exit_code": 0, "pod": f"p-{hours}", **more}
    write_record(store, TaskRecord(run=run, stage=stage, gpus=gpus, **given))


def agent(store: Store, key: str, node: int, begun: float, seconds: float | None) -> None:
    """An agent that began then; None is one that was killed, or runs."""
    number = attempts.count_begun(store, key, node) + 1
    said = {"node": node, "attempt": "0", "pod": "p", "time": begun, "progress": ""}
    where = f"launch/{key}/attempts/{node}-{number:04d}"
    store.write(f"{where}.json", json.dumps(said).encode())
    if seconds is not None:
        begin = attempts.Attempt(node=node, number=number, attempt="0", pod="p", begun=begun, progress="")
        attempts.end(store, key, begin, attempts.end_record(begin, ExitStatus(exit_code=1), "", seconds))
