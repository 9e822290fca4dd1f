"""Every beginning and end of every agent of a job, below `launch/{key}/attempts/`, and what they say together."""

from __future__ import annotations

import collections
import itertools
import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypedDict

from hqclip.errors import ConflictError, CrashLoopError, DataError, UnavailableError
from hqclip.launch.exit_status import STOPPED, TERMINATED, ExitStatus, broke_first
from hqclip.launch.job import folder
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.typed_json import loads, read_as

READERS = 16


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One agent from its beginning; `exit_status` is None while it works, and if it was killed.

    `number` counts the agents of this node; `attempt` is what the scheduler calls it, empty if that is unknown.
    """

    node: int
    number: int
    attempt: str
    pod: str
    begun: float  # seconds since 1970
    progress: str  # the last key of the job's progress when it began
    exit_status: ExitStatus | None = None
    progress_after: str = ""
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """`{node}-{n}`, as its records are called."""
        return f"{self.node}-{self.number:04d}"


def begin(store: Store, key: str, *, node: int, attempt: str, pod: str, progress: str) -> Attempt:
    """Write that an agent of this node begins, under the next free number."""
    number = 1 + count_begun(store, key, node)
    now = time.time()
    said = {"node": node, "attempt": attempt, "pod": pod, "time": now, "progress": progress}
    while True:
        begun = Attempt(node=node, number=number, attempt=attempt, pod=pod, begun=now, progress=progress)
        record = f"{folder(key)}/attempts/{begun.name}.json"
        try:
            store.write(record, canonical_json(said))
            return begun
        except ConflictError:
            if not store.exists(record):
                raise  # something else is in the way
            number += 1


def end_record(begun: Attempt | None, exit_status: ExitStatus, progress: str, seconds: float) -> dict[str, Any]:
    """The end of an agent as plain values: what is stored, and what the termination message says.

    `begun` is None for an agent that found no job to begin.
    """
    return {
        "node": begun.node if begun else None,
        "attempt": begun.attempt if begun else "",
        "exit_code": exit_status.exit_code,
        "rank": exit_status.rank,
        "message": exit_status.message,
        "traceback": exit_status.traceback,
        "timestamp": exit_status.timestamp,
        "progress": progress,
        "seconds": round(seconds, 3),
    }


def end(store: Store, key: str, begun: Attempt, record: dict[str, Any]) -> None:
    """Write how it ended."""
    store.write(f"{folder(key)}/attempts/{begun.name}.end.json", canonical_json(record))


def progress_mark(store: Store, prefix: str) -> str:
    """The last key below the prefix; empty if there is none, or no prefix."""
    last = collections.deque(store.list(prefix) if prefix else (), maxlen=1)
    return last[0] if last else ""


def refuse_crash_loop(store: Store, key: str, node: int, limit: int, progress: str) -> None:
    """Raises `CrashLoopError` if the last `limit` ends of this node all failed where they began; never with 0.

    An agent that waited in vain for the others, before any rank began, has not failed itself.
    """
    ends = [
        attempt
        for attempt in read_attempts(store, key, node)
        if attempt.exit_status and not _in_vain(attempt.exit_status)
    ]
    last = ends[-limit:] if limit else []
    if not last or len(last) < limit:
        return
    marks = {progress, *(mark for attempt in last for mark in (attempt.progress, attempt.progress_after))}
    failures = [
        attempt.exit_status for attempt in last if attempt.exit_status is not None and attempt.exit_status.failed
    ]
    if len(failures) < limit or len(marks) > 1:
        return
    why = next((f for f in reversed(failures) if f.exit_code != CrashLoopError.exit_code), failures[-1])
    where = f"after {progress}" if progress else "before anything was done"
    raise CrashLoopError(
        f"node {node} failed {limit} times in a row {where}, and is not tried again; "
        f"the last time with exit code {why.exit_code}: {why.message}"
    )


def _in_vain(exit_status: ExitStatus) -> bool:
    return exit_status.exit_code == UnavailableError.exit_code and exit_status.rank is None


def count_begun(store: Store, key: str, node: int) -> int:
    """How many agents of a node have begun."""
    return max((number for _, number, _ in _names(store, key, node)), default=0)


def read_attempts(store: Store, key: str, node: int | None = None) -> list[Attempt]:
    """All of a job, or those of a node, by number and then by node. Raises `DataError`."""
    names = _names(store, key, node)
    ended = {(of, number) for of, number, is_end in names if is_end}
    begun = sorted((number, of) for of, number, is_end in names if not is_end)

    def read(name: tuple[int, int]) -> Attempt:
        number, of = name
        return _read(store, key, of, number, (of, number) in ended)

    with ThreadPoolExecutor(READERS) as pool:  # of a thousand replicas one after the other, it would take minutes
        return list(pool.map(read, begun))


def ran_before_s(store: Store, key: str) -> float:
    """Seconds that node 0 has run so far in all its attempts; of one that was killed none are known."""
    attempts = read_attempts(store, key, 0)
    seconds = sum(attempt.seconds for attempt in attempts)
    if attempts and attempts[-1].exit_status is None:
        seconds += max(0.0, time.time() - attempts[-1].begun)
    return seconds


def queued_s(attempts: list[Attempt], since: float) -> float:
    """Seconds that a node waited for its machine, as the mean of all nodes: from `since`, and between two attempts.

    Of an attempt that was killed it is not known when it ended, so the wait after it does not count.
    """
    by_node: dict[int, list[Attempt]] = {}
    for attempt in attempts:
        by_node.setdefault(attempt.node, []).append(attempt)
    waited = 0.0
    for of_node in by_node.values():
        waited += max(0.0, of_node[0].begun - since)
        for before, one in itertools.pairwise(of_node):
            waited += max(0.0, one.begun - before.exit_status.timestamp) if before.exit_status else 0.0
    return waited / len(by_node) if by_node else 0.0


def held_s(attempts: Iterable[Attempt], until: float) -> float:
    """Seconds that all nodes have run together, `until` then (since 1970) if they still do.

    Of an agent that was killed nobody knows when: it counts until the next one of its node began, or `until`.
    """
    total, next_began = 0.0, dict[int, float]()
    for attempt in sorted(attempts, key=lambda each: each.number, reverse=True):
        last = next_began.get(attempt.node, until)
        total += attempt.seconds if attempt.exit_status else max(0.0, min(last, until) - attempt.begun)
        next_began[attempt.node] = attempt.begun
    return total


def root_cause(attempts: list[Attempt]) -> Attempt | None:
    """Of the newest attempt, the agent whose failure caused those of the others; None if none is known to have failed.

    Nodes count for themselves, so the newest attempt is what began after all earlier ends.
    """
    by_node: dict[int, list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda attempt: attempt.number):
        by_node.setdefault(attempt.node, []).append(attempt)
    latest = [of_node[-1] for of_node in by_node.values()]
    before = [
        a.exit_status.timestamp for of_node in by_node.values() for a in of_node[:-1] if a.exit_status is not None
    ]
    newest = [attempt for attempt in latest if attempt.begun >= max(before, default=0.0)]
    for group in (newest, latest):
        cause = broke_first(attempt.exit_status for attempt in group if attempt.exit_status is not None)
        if cause is not None:
            return next(attempt for attempt in group if attempt.exit_status is cause)
    return None


def last_stop(attempts: list[Attempt]) -> ExitStatus | None:
    """Of the newest attempt, the end of an agent that was stopped from outside, the first; None if none was.

    That nobody watches any more stands over SIGTERM, and those who only followed another agent over none.
    """
    newest = max((attempt.number for attempt in attempts), default=0)
    ends = [a.exit_status for a in attempts if a.number == newest and a.exit_status is not None]
    stops = [end for end in ends if end.exit_code in (STOPPED, TERMINATED)]
    followed = "ends as agent "
    return min(stops, key=lambda e: (e.exit_code != STOPPED, e.message.startswith(followed), e.timestamp), default=None)


class _Begun(TypedDict):
    """What was written when it began, as far as it is read."""

    attempt: str
    pod: str
    time: float
    progress: str


class _Ended(TypedDict):
    """The same of its end."""

    exit_code: int
    rank: int | None
    message: str
    traceback: str
    timestamp: float
    progress: str
    seconds: float


def _names(store: Store, key: str, node: int | None) -> list[tuple[int, int, bool]]:
    """Node, number and whether it is an end, of every record."""
    prefix = f"{folder(key)}/attempts/" + ("" if node is None else f"{node}-")
    found = (re.fullmatch(r"(\d+)-(\d+)(\.end)?\.json", key.rpartition("/")[2]) for key in store.list(prefix))
    return [(int(match[1]), int(match[2]), bool(match[3])) for match in found if match]


def _read(store: Store, key: str, node: int, number: int, has_ended: bool) -> Attempt:
    record = f"{folder(key)}/attempts/{node}-{number:04d}"
    try:
        said = read_as(_Begun, loads(store.read(f"{record}.json")))
        ended = read_as(_Ended, loads(store.read(f"{record}.end.json"))) if has_ended else None
        return Attempt(
            node=node,
            number=number,
            attempt=said["attempt"],
            pod=said["pod"],
            begun=said["time"],
            progress=said["progress"],
            exit_status=_exit_status(ended) if ended else None,
            progress_after=ended["progress"] if ended else "",
            seconds=ended["seconds"] if ended else 0.0,
        )
    except ValueError as error:
        raise DataError(f"{record}.json or its end: no record of this version of hqclip: {error!r}") from error


def _exit_status(record: _Ended) -> ExitStatus:
    return ExitStatus(
        exit_code=record["exit_code"],
        rank=record["rank"],
        message=record["message"],
        traceback=record["traceback"],
        timestamp=record["timestamp"],
    )
