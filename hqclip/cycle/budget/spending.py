"""The notes of a cycle or sweep in, the GPU-hours that all its tasks and jobs have held so far out, by stage.

Every pipeline run that works on it leaves a mark there; what the tasks of these runs said of themselves is added up,
every attempt once. Agents count what a job ran: waiting for machines is not in it.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from hqclip.cycle.keys import runs_prefix
from hqclip.launch.attempts import held_s, read_attempts
from hqclip.store import Store
from hqclip.store.documents import number_in, read_json_or_warn
from hqclip.task_records import TaskRecord, read_records, safe

HOUR_S = 3600.0


def gpu_hours(store: Store, notes: str) -> dict[str, float]:
    """By stage; a task or agent that was killed counts until its last sign of life. Raises `DataError`."""
    hours = defaultdict[str, float](float)
    jobs: dict[str, tuple[str, int, float]] = {}  # by key: stage, GPUs of a node, the last that is known of it
    for record in _records(store, notes):
        until = record.ended or record.seen or record.started
        if not record.launched:
            hours[record.stage] += record.gpus * max(0.0, until - record.started) / HOUR_S
        for key, gpus in record.launched.items():
            jobs[key] = record.stage, gpus, max(until, jobs[key][2] if key in jobs else until)
    for key, (stage, gpus, until) in jobs.items():
        if gpus:
            hours[stage] += gpus * held_s(read_attempts(store, key), until) / HOUR_S
    return {stage: spent for stage, spent in hours.items() if spent}


def mark_run(store: Store, notes: str, run: str, budget: Mapping[str, Any]) -> None:
    """A pipeline run works on it, with this budget: what its tasks spend counts from now on."""
    said = json.dumps({"run": run, "time": time.time(), "budget": budget}, indent=1).encode()
    store.write(f"{runs_prefix(notes)}{safe(run)}.json", said, create_only=False)


def marks(store: Store, notes: str) -> list[dict[str, Any]]:
    """What was marked, the newest last; one that is no JSON object is left out with a warning."""
    said = [read_json_or_warn(store, key, "budget") for key in store.list(runs_prefix(notes))]
    return sorted((mark for mark in said if mark), key=lambda mark: number_in(mark, "time"))


def _records(store: Store, notes: str) -> Iterator[TaskRecord]:
    for mark in marks(store, notes):
        yield from read_records(store, str(mark.get("run", "")))
