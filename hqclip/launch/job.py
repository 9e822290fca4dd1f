"""What launcher and workers tell each other through the store, below `launch/{name}/{n}/`. Read this first.

A name may be launched again after its job has ended; n counts the jobs under it, from 1.

job.json                     what to run: written by the launcher before anything starts
lease.json                   rewritten by the launcher while it watches; workers stop when it no longer changes
attempts/{node}-{n}.json     one beginning of one agent: node, attempt, pod, progress then
attempts/{node}-{n}.end.json how it ended: exit code, the rank that broke first, its traceback, progress then
node-0.json                  where node 0 of a gang is, if its pods have no names: written when it begins
verdicts/{node}-{n}.json     an end that was permanent, or the launcher gone: the other agents of a gang share its code
logs/{node}-*.txt            the end of what a pod, or an attempt on this machine, printed
result.json                  what the stage said: written by rank 0, or by the replica that finished last
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import Any

from hqclip.errors import ConflictError, DataError
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.typed_json import loads, read_as

GANG, REPLICAS = "gang", "replicas"
KEPT_BYTES = 2**20  # of each file of logs: its end
PERMANENT = (64, 65, 66, 70, 73, 77, 78)  # exit codes that trying again does not change; see errors.py


@dataclass(frozen=True, kw_only=True)
class Job:
    """A stage, its settings, and the machines it was given.

    `shape` is gang (one program on `nodes` x `nproc` ranks that meet by rendezvous) or replicas (`nodes` processes
    that share work through the store). `progress` is a prefix of the store whose last key moves when work is done,
    empty if there is none. Times are in seconds; 0 switches a limit off.
    """

    name: str
    digest: str
    store: str
    stage: str
    settings: dict[str, Any]
    shape: str
    nodes: int
    nproc: int
    progress: str
    restarts_in_place: int  # by the agent, of its own processes, before its pod fails
    no_progress_attempts: int  # failures in a row without progress after which trying again is refused
    lease_stale_s: float
    rendezvous_timeout_s: float
    shutdown_s: float  # between SIGTERM and SIGKILL of the ranks; less than the pod's grace
    environment_script: str  # sourced before the ranks start, e.g. NCCL's; empty for none
    launch: int = 0  # n; 0 before it is published

    @property
    def key(self) -> str:
        """What the workers know the job by: `{name}/{n}`."""
        return f"{self.name}/{self.launch}"

    def to_json(self) -> bytes:
        """The object `launch/{name}/{n}/job.json`."""
        return canonical_json(asdict(self))

    @classmethod
    def from_json(cls, data: bytes, key: str) -> Job:
        """Raises `DataError` for what is no job of this version."""
        try:
            return read_as(cls, loads(data))
        except ValueError as error:
            raise DataError(f"{key}: not a job of this version of hqclip: {error}") from error


def read_job(store: Store, key: str) -> Job:
    """What to run. Raises `NotFoundError` and `DataError`."""
    there = f"{folder(key)}/job.json"
    return Job.from_json(store.read(there), there)


def folder(key: str) -> str:
    """Where a job keeps what launcher and workers tell each other."""
    return f"launch/{key}"


def logs_folder(key: str) -> str:
    """Where the output of its pods is kept."""
    return f"{folder(key)}/logs"


def publish(store: Store, job: Job) -> Job:
    """Write the job under the next free number; the job with that number."""
    number = newest(store, job.name)
    while True:
        number += 1
        numbered = replace(job, launch=number)
        key = f"{folder(numbered.key)}/job.json"
        try:
            store.write(key, numbered.to_json())
            return numbered
        except ConflictError:
            if not store.exists(key):
                raise  # something else is in the way; otherwise somebody was quicker


def newest(store: Store, name: str) -> int:
    """The number of the job started last under a name, 0 if there is none."""
    found = (re.fullmatch(r"launch/[^/]+/(\d+)/job\.json", key) for key in store.list(f"launch/{name}/"))
    return max((int(match[1]) for match in found if match), default=0)
