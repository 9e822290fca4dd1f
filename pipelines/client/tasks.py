"""A run in; its tasks out, as a person counts them: one for each task of the pipeline and each trial of a loop.

Told by two: Kubeflow's workflow has the tree, its states and messages; the records that tasks write in the store have
trials, exit codes and reasons. Either will do; what is out of reach is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hqclip.errors import HQClipError
from hqclip.stages import STAGES
from hqclip.task_records import TaskRecord, read_records
from pipelines.client.connect import Kubeflow
from pipelines.client.details import nodes_of_details
from pipelines.client.find import ENDED, cancelled_at, parameters_of, state_of, store_of
from pipelines.client.workflow import CONTAINER, DRIVER, GROUP_DRIVER, TASK, Node, read_nodes

LONGEST_HOST_NAME = 63  # what a pod knows of its own name may be cut there
_STATES = {
    "Pending": "PENDING",
    "Running": "RUNNING",
    "Succeeded": "SUCCEEDED",
    "Skipped": "SKIPPED",
    "Omitted": "OMITTED",
    "Failed": "FAILED",
    "Error": "FAILED",
}
_NOT_MADE = re.compile(r"is forbidden|failed calling webhook")  # what the API server says of pods it does not take
_DEADLINE = "exceeded its deadline"  # what is said of a pod that is ended together with its run


@dataclass(frozen=True)
class Attempt:
    """One pod that ran for a task, or was to; `record` is what it said of itself."""

    pod: str
    node: str
    state: str
    message: str = ""
    exit_code: int | None = None
    started: datetime | None = None
    ended: datetime | None = None
    machine: str = ""
    record: TaskRecord | None = None
    is_driver: bool = False  # a pod of Kubeflow's own, which prepares the task

    @property
    def ran(self) -> bool:
        """Whether it came so far that it can have said something."""
        return self.started is not None and not (self.exit_code is None and _NOT_MADE.search(self.message))


@dataclass(frozen=True)
class Task:
    """A task: `stage` as the pipeline calls it, and `trial` what its item of the loop is called, if it is in one."""

    stage: str
    trial: str
    state: str
    attempts: tuple[Attempt, ...] = ()
    drivers: tuple[Attempt, ...] = ()  # those that failed
    is_last: bool = False  # it runs at the very end, whatever happened
    items: tuple[int, ...] = ()  # the numbers of the loops' items that it is for

    @property
    def name(self) -> str:
        """What it is called: `train`, or `train-raw` for the trial raw."""
        return f"{self.stage}-{self.trial}" if self.trial else self.stage

    @property
    def last(self) -> Attempt | None:
        """The attempt that counts: the last one, Kubeflow's own pod if there was none."""
        return next(reversed([*self.drivers[-1:], *self.attempts[-1:]]), None)

    @property
    def record(self) -> TaskRecord | None:
        """What the last attempt that said anything said of itself."""
        return next((each.record for each in reversed(self.attempts) if each.record), None)

    @property
    def started(self) -> datetime | None:
        """When it began first."""
        return min((each.started for each in self.attempts if each.started), default=None)

    @property
    def ended(self) -> datetime | None:
        """When it ended; None while it has not."""
        last = self.last
        return last.ended if last and self.state in ENDED else None

    @property
    def seconds(self) -> float | None:
        """From its first begin to its last end."""
        return (self.ended - self.started).total_seconds() if self.started and self.ended else None

    def is_called(self, text: str) -> bool:
        """Whether a person means it: `train-raw`, or `train` for all trials, in Kubeflow's or in our spelling."""
        return text.replace("_", "-") in (self.name.replace("_", "-"), self.stage.replace("_", "-"))


@dataclass(frozen=True)
class Told:
    """All that is known of a run; `missing` says which sources could not be read."""

    run: Any
    state: str
    tasks: tuple[Task, ...]
    missing: tuple[str, ...] = field(default=())

    @property
    def records(self) -> list[TaskRecord]:
        """Of the last attempts."""
        return [task.record for task in self.tasks if task.record]


def tell(kubeflow: Kubeflow, run: Any, *, records: bool = True) -> Told:
    """The tasks of a run, in the order they began. Nothing is raised for a source that is out of reach."""
    missing: list[str] = []
    nodes = _nodes(kubeflow, run, missing)
    said = _records(run, missing) if records else []
    tasks = _merged(run, nodes, said)
    return Told(run, state_of(run), tuple(tasks), tuple(missing))


def _nodes(kubeflow: Kubeflow, run: Any, missing: list[str]) -> list[Node]:
    try:
        nodes = read_nodes(kubeflow, run.run_id)
    except HQClipError as error:
        missing.append(f"Kubeflow's workflow (trials, attempts and messages): {error}")
        nodes = []
    return nodes or nodes_of_details(run)


def _records(run: Any, missing: list[str]) -> list[TaskRecord]:
    try:
        store = store_of(run)
        return read_records(store, run.run_id) if store else []
    except HQClipError as error:
        where = parameters_of(run)["store"]
        missing.append(f"the records of tasks in {where} (trials, reasons and what was decided): {error}")
        return []


def _merged(run: Any, nodes: Sequence[Node], records: Sequence[TaskRecord]) -> list[Task]:
    """Tasks by the tree, with what they said of themselves; those that only their records tell of come last."""
    places: dict[tuple[str, ...], list[Node]] = {}
    for node in nodes:
        if node.kind != GROUP_DRIVER or node.phase in ("Failed", "Error"):
            places.setdefault(node.place, []).append(node)
    left = {(record.task, record.pod): record for record in records}
    trials = _trials(nodes, records)
    tasks = []
    for found in places.values():
        own = found[0]
        attempts = [_attempt(node, _record_of(node, left)) for node in found if node.kind == CONTAINER and node.is_pod]
        trial = trials.get(own.items) or _unnamed(own.items)
        tasks.append(_task(run, found, attempts, trial))
    told = [task for task in tasks if task.state]
    by_records: dict[tuple[str, str], list[TaskRecord]] = {}
    for record in left.values():
        by_records.setdefault((record.stage, record.trial), []).append(record)
    for (stage, trial), own_records in by_records.items():
        told = _with_records(run, told, stage.replace("_", "-"), trial, own_records)
    return _in_order(told)


def _in_order(tasks: Sequence[Task]) -> list[Task]:
    """Stage by stage as they began, those that did not as cycles have them; items of loops by their numbers."""
    order = list(STAGES)
    begun: dict[str, float] = {}
    for task in tasks:
        if task.started:
            begun[task.stage] = min(begun.get(task.stage, math.inf), task.started.timestamp())

    def place(task: Task) -> tuple[bool, float, int, tuple[int, ...], str]:
        stage = task.stage.replace("-", "_")
        known = order.index(stage) if stage in order else len(order)
        return task.is_last, begun.get(task.stage, math.inf), known, task.items, task.trial

    return sorted(tasks, key=place)


def _trials(nodes: Iterable[Node], records: Iterable[TaskRecord]) -> dict[tuple[int, ...], str]:
    """What the items of loops are called: as a task of theirs said, or as they were started."""
    said = {record.pod: record.trial for record in records if record.trial}
    trials = {node.items: node.trial for node in nodes if node.items and node.trial}
    return trials | {node.items: name for node in nodes if node.items and (name := _by_pod(said, node.pod))}


def _unnamed(items: Sequence[int]) -> str:
    """What an item is called that nobody names: by its number, from 1."""
    return "-".join(["item", *(str(number + 1) for number in items)]) if items else ""


def _by_pod(said: dict[str, str], pod: str) -> str:
    return (said.get(pod) or said.get(pod[:LONGEST_HOST_NAME]) or "") if pod else ""


def _record_of(node: Node, left: dict[tuple[str, str], TaskRecord]) -> TaskRecord | None:
    """What the pod of this node said, which is taken out of what is left."""
    for key, record in left.items():
        if node.pod and record.pod in (node.pod, node.pod[:LONGEST_HOST_NAME]):
            return left.pop(key)
    return None


def _attempt(node: Node, record: TaskRecord | None) -> Attempt:
    return Attempt(
        pod=node.pod,
        node=node.id,
        # a trial that failed ends well for Kubeflow, so that it takes no other with it
        state="FAILED" if record and record.failed else _STATES.get(node.phase, "PENDING"),
        message=node.message,
        exit_code=record.exit_code if record and record.exit_code is not None else node.exit_code,
        started=node.started,
        ended=node.ended,
        machine=(record.node if record else "") or node.machine,
        record=record,
        is_driver=node.kind != CONTAINER,
    )


def _task(run: Any, nodes: Sequence[Node], attempts: Sequence[Attempt], trial: str) -> Task:
    own = nodes[0]
    drivers = [_attempt(node, None) for node in nodes if node.kind in (DRIVER, GROUP_DRIVER) and node.is_pod]
    failed = [driver for driver in drivers if driver.state == "FAILED"]
    state = _state(run, nodes, attempts, failed)
    return Task(own.task, trial, state, tuple(attempts), tuple(failed) if not attempts else (), own.is_last, own.items)


def _state(run: Any, nodes: Sequence[Node], attempts: Sequence[Attempt], failed: Sequence[Attempt]) -> str:
    """Of one task; empty for what is none: a group whose driver was ended with the run."""
    whole = [node for node in nodes if node.kind == TASK]
    if attempts:
        state = attempts[-1].state
        if state == "FAILED" and _was_cancelled(run, attempts[-1]):
            return "CANCELED"
        # the pod is gone, and Kubeflow has not given up: another is to come
        return "PENDING" if state == "FAILED" and state_of(run) not in ENDED and _goes_on(nodes) else state
    if failed:
        if not _was_cancelled(run, failed[-1]):
            return "FAILED"
        return "OMITTED" if whole or nodes[0].kind == DRIVER else ""
    if whole:
        state = _STATES.get(whole[-1].phase, "PENDING")
        return "SKIPPED" if state == "SUCCEEDED" else "PENDING" if state == "RUNNING" else state  # taken from the cache
    phases = {node.phase for node in nodes}
    return "OMITTED" if phases <= {"Omitted", "Skipped"} or state_of(run) in ENDED else "PENDING"


def _goes_on(nodes: Iterable[Node]) -> bool:
    return any(not node.is_pod and node.phase in ("Running", "Pending") for node in nodes)


def _was_cancelled(run: Any, attempt: Attempt) -> bool:
    """Whether it was ended from outside, with its run."""
    when = cancelled_at(run)
    if when is None:
        return False
    stopped = attempt.record is not None and attempt.record.reason == "stopped"
    return stopped or _DEADLINE in attempt.message or attempt.ended is None or attempt.ended >= when


def _with_records(run: Any, tasks: list[Task], stage: str, trial: str, records: Sequence[TaskRecord]) -> list[Task]:
    """`tasks` with what such a task said: Kubeflow does not know its pods, or does not know of it."""
    attempts = tuple(_attempt_by(run, record) for record in records)
    for number, task in enumerate(tasks):
        if task.stage == stage and not task.record and task.trial in (trial, ""):
            state = task.state if task.state in ENDED or task.attempts else attempts[-1].state
            tasks[number] = replace(task, trial=trial, state=state, attempts=attempts, drivers=())
            return tasks
    return [*tasks, Task(stage, trial, attempts[-1].state, attempts, is_last=stage == "finish")]


def _attempt_by(run: Any, record: TaskRecord) -> Attempt:
    over = state_of(run) in ENDED
    if record.ended is None:
        state = ("CANCELED" if cancelled_at(run) is not None else "FAILED") if over else "RUNNING"
    elif record.exit_code == 0:
        state = "SUCCEEDED"
    else:
        state = "FAILED" if record.failed else "CANCELED"
    return Attempt(
        pod=record.pod,
        node="",
        state=state,
        message="" if record.ended is not None or not over else "it was killed: it did not say how it ended",
        exit_code=record.exit_code,
        started=datetime.fromtimestamp(record.started, UTC),
        ended=datetime.fromtimestamp(record.ended, UTC) if record.ended is not None else None,
        machine=record.node,
        record=record,
    )
