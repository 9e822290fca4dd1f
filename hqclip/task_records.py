"""What each task of a pipeline run says of itself in the store: where it ran, how it ended, why, and what it decided.

Kubeflow forgets pods and their logs, and tells no reason; these records stay. Every attempt at a task has one of its
own, written when it begins and again when it ends: a killed one has no end. Nothing else depends on them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from hqclip import log
from hqclip.errors import DataError, NotFoundError
from hqclip.records import Manifest
from hqclip.store import Store
from hqclip.typed_json import read_as

POD, NODE = "HQCLIP_POD", "HQCLIP_NODE"  # environment: where a task runs
NOT_RECORDED = "the record of this task was not written"  # a warning, never why a task failed
LAST_LINES = 20  # of what a task said, kept in its record
REASONS = {
    1: "bug",
    64: "setting",
    65: "data",
    66: "not_found",
    69: "service",
    70: "crash_loop",
    73: "conflict",
    74: "storage",
    75: "stopped",
    76: "budget",
    77: "access",
    78: "software",
    130: "stopped",
    137: "out_of_memory",
    143: "stopped",
}  # what class of reason an exit code is


@dataclass(frozen=True, kw_only=True)
class TaskRecord(Manifest):
    """`pipelines/{run}/{task}/{pod}.json`: one attempt at one task of a pipeline run.

    `run` is Kubeflow's id of it. `stage` is a name of the table of stages, or `finish`; `trial` is the name of the
    training run, where there are several. Times are seconds since 1970 by the clock of the task; `ended` and
    `exit_code` are None while it runs, and for ever if it was killed. `reason` is one of `REASONS`, `error` the one
    line that says why, `last` the end of what it said. `decided` has what a person wants to know of a task that ended
    well (promoted or not, nothing to do, kept out by the lock), `job` the launched job and its verdict.

    `gpus` are those that the task itself can see, `seen` is its last sign of life while it holds them, `launched` has
    the GPUs of each node by the key of every job that it started or followed: what it spent is counted by these.
    """

    KIND = "task"
    run: str
    stage: str
    trial: str = ""
    pod: str = ""
    node: str = ""
    image: str = ""
    code_version: str = ""
    started: float
    ended: float | None = None
    exit_code: int | None = None
    reason: str = ""
    error: str = ""
    last: tuple[str, ...] = ()
    decided: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    gpus: int = 0
    seen: float | None = None
    launched: dict[str, int] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """The stage, and the trial where there are several: `train-raw`."""
        return f"{self.stage}-{self.trial}" if self.trial else self.stage

    @property
    def key(self) -> str:
        """Where it is in the store."""
        return f"{prefix_of(self.run)}{safe(self.task)}/{safe(self.pod) or 'here'}.json"

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well; what was stopped from outside did not fail."""
        return self.exit_code not in (None, 0) and self.reason != "stopped"

    @classmethod
    def _from_document(cls, document: dict[str, Any]) -> TaskRecord:
        """A newer version may say more."""
        known = {each.name for each in dataclasses.fields(cls)}
        return read_as(cls, {name: value for name, value in document.items() if name in known})


def prefix_of(run: str) -> str:
    """What the keys of the records of a pipeline run begin with."""
    return f"pipelines/{safe(run)}/"


def write_record(store: Store, record: TaskRecord) -> None:
    """Write what is known now over what was known before. Raises what the store raises."""
    store.write(record.key, record.to_json(), create_only=False)


def read_records(store: Store, run: str) -> list[TaskRecord]:
    """All attempts at all tasks of a pipeline run, by their start; a damaged one is left out with a warning."""
    return sorted(_read(store, run), key=lambda record: (record.started, record.key))


def _read(store: Store, run: str) -> Iterator[TaskRecord]:
    for key in store.list(prefix_of(run)):
        try:
            yield TaskRecord.from_json(store.read(key), f"{store.uri}/{key}")
        except (DataError, NotFoundError) as error:
            log.warning("records", f"{error}; it is left out")


def safe(name: str) -> str:
    """A name as part of a key: what is no letter, digit, `_`, `.` or `-` is a `-`."""
    return re.sub(r"[^\w.-]", "-", name)
