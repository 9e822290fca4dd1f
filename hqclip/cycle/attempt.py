"""One attempt at a task of a pipeline, told to the store as it begins, as it ends, and as it is killed.

What cannot be told is a warning, never the end of the task. A task that belongs to no run tells nothing.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from hqclip import __version__, log
from hqclip.cycle import lock
from hqclip.errors import HQClipError, TerminatedError
from hqclip.foreign import translated
from hqclip.launch.gpus import visible_gpus
from hqclip.provenance import IMAGE, RUN
from hqclip.stages import STAGES
from hqclip.store import Store, open_store
from hqclip.task_records import LAST_LINES, NODE, NOT_RECORDED, POD, REASONS, TaskRecord, write_record
from hqclip.termination import told_at_once

LINE = 500  # characters of a line that is kept
DECIDED = {
    "plan": ("has_work", "reason", "cycle", "trials", "locked_by"),
    "sweep": ("has_work", "reason", "plan", "trials", "dataset"),
    "plan_evaluation": ("has_work", "reason", "model"),
    "download": ("pool", "num_shards", "rows", "faults", "damaged"),
    "annotate": ("annotations", "rows", "statuses"),
    "score": ("scores", "reason"),
    "curate": ("dataset", "rows", "usable_rows", "report"),
    "train": ("model",),
    "evaluate": ("evaluation", "average"),
    "promote": ("cycle", "verdict", "reason", "candidate", "average", "margin", "report"),
    "select": ("best", "reason", "average", "report"),
    "finish": ("outcome", "task", "reason"),
}  # what a person wants to know, of the result of each stage


@contextmanager
def recorded(stage: str, store_uri: str, *, owner: str = "", trial: str = "") -> Iterator[Attempt]:
    """While entered, the run of `owner` or of the environment knows of this attempt at a task, however it ends.

    A fault that a person can mend is said in a line and ends the process with its exit code.
    """
    run = run_id(owner)
    with log.kept(LAST_LINES) as said:
        attempt = Attempt(_begun(run, stage, trial), store_uri, lock.owner_of(owner), said)
        with told_at_once(attempt.is_killed) if run else nullcontext():
            try:
                attempt.begins()
                yield attempt
                attempt.ends()
            except HQClipError as error:
                code = log.fault(stage, error)
                attempt.ends(code, f"hqclip {stage}: {_first_line(str(error))}")
                raise SystemExit(code) from error
            except KeyboardInterrupt:
                attempt.ends(130, f"hqclip {stage}: interrupted")
                raise
            except Exception as error:
                *_, what = traceback.format_exception_only(error)
                place = traceback.extract_tb(error.__traceback__)[-1]
                attempt.ends(1, f"{_first_line(what)} ({place.filename}:{place.lineno})")
                raise


def run_id(owner: str) -> str:
    """The run that this process is part of: what the environment says, or else the one it works for; "" for none."""
    return os.environ.get(RUN) or lock.owner_of(owner)


class Attempt:
    """What is known of it so far. Safe to use from several threads.

    `is_over` tells that the process was told to end: it gives no sign of life from then on.
    """

    def __init__(self, record: TaskRecord, store_uri: str, owner: str, said: deque[str]) -> None:
        self._record, self._uri, self._owner, self._said = record, store_uri, owner, said
        self._store: Store | None = None
        self._noting, self._writing = threading.Lock(), threading.Lock()
        self.is_over = threading.Event()
        self._stops = False

    def begins(self) -> None:
        """Tell that it has begun; then wait while `hqclip gc` deletes, which spares all once it has read that."""
        self._write()
        if self._record.run:
            try:
                lock.wait_for_gc(self._opened(), self._owner)
            except HQClipError as error:
                log.debug("lock", f"{error}; whoever needs the store will say so")

    def decides(self, result: Mapping[str, Any]) -> None:
        """Note what the result of a stage says to a person; it is told when the task ends."""
        wanted = {name: result[name] for name in DECIDED.get(self._record.stage, ()) if name in result}
        if "trials" in wanted:
            wanted["trials"] = [trial["name"] for trial in wanted["trials"]]
        self._note(decided=wanted)

    def launches(self, job: Mapping[str, Any]) -> None:
        """Tell of the job that does the work, with the GPUs of each of its nodes, or how it ended."""
        about = {name: value for name, value in job.items() if name != "gpus"}
        if "gpus" in job:
            self._note(launched={**self._record.launched, str(job["key"]): int(job["gpus"])})
        self._note(job={**self._record.job, **about})
        self._write()

    def lives(self) -> None:
        """Tell that it still holds its GPUs."""
        if self._record.ended is None:
            self._note(seen=time.time())
            self._write()

    def stops(self) -> None:
        """It is about to end itself by SIGTERM, and says why when it ends."""
        self._stops = True

    @property
    def run(self) -> str:
        """The run that it belongs to, empty for none."""
        return self._record.run

    def ends(self, exit_code: int = 0, error: str = "") -> None:
        """Tell how it ended."""
        reason = REASONS.get(exit_code, "bug") if exit_code else ""
        self._note(ended=time.time(), exit_code=exit_code, reason=reason, error=error[:LINE])
        self._write()

    def is_killed(self) -> None:
        """Half a second is left: the lock first, for which others wait, then the record."""
        if self._stops:
            return  # nobody kills it
        self.is_over.set()
        try:
            lock.mark_ending(self._opened(), self._owner)
        except HQClipError as error:
            log.warning("lock", f"{error}; the lock is free when it is old")
        code = TerminatedError.exit_code
        if self._record.ended is None:
            self.ends(code, f"hqclip {self._record.stage}: SIGTERM was received; the same command continues")

    def _note(self, **known: Any) -> None:
        with self._noting:
            self._record = dataclasses.replace(self._record, **known)

    def _write(self) -> None:
        if not self._record.run:
            return
        self._note(last=tuple(line[:LINE] for line in self._said))
        try:
            with self._writing, translated():
                write_record(self._opened(), self._record)
        except HQClipError as error:
            log.warning(self._record.stage, f"{NOT_RECORDED}: {_first_line(str(error))}")

    def _opened(self) -> Store:
        if self._store is None:
            self._store = open_store(self._uri)
        return self._store


def _begun(run: str, stage: str, trial: str) -> TaskRecord:
    pod, node, image = (os.environ.get(name, "") for name in (POD, NODE, IMAGE))
    holds = stage in STAGES and STAGES[stage].accelerator
    return TaskRecord(
        run=run,
        stage=stage,
        trial=trial,
        pod=pod,
        node=node,
        image=image,
        code_version=__version__,
        started=time.time(),
        gpus=visible_gpus() if holds else 0,
    )


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
