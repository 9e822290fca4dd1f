"""`hqclip migrate`: a store in; which formats are in it, and what is brought to those of this version, out.

There is no number of a store as a whole: every document and table bears its own, since a store is written by several
versions while one follows the other, and one number would have to be true of all at once.

A step makes of a document of one format the same of the next, and is written by compare-and-swap over the one that was
read: what was killed goes on with the next call, and what is done is done. As long as the readers of this version read
all formats, there are no steps, and nothing is written.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from hqclip import log
from hqclip.curate.statistics import Statistics
from hqclip.cycle.config import MigrateConfig
from hqclip.data.parquet import PREFIX
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.evaluate.judging import SetRecord
from hqclip.evaluate.manifest import SuiteManifest
from hqclip.records import (
    FORMAT,
    Approval,
    Champion,
    CyclePlan,
    CycleRecord,
    DatasetVersion,
    Evaluation,
    FailedTrial,
    Manifest,
    Pool,
    canonical_json,
    newer,
)
from hqclip.store import Store, check_not_empty, open_store
from hqclip.task_records import TaskRecord
from hqclip.typed_json import loads

Step = Callable[[dict[str, Any]], dict[str, Any]]
STEPS: Mapping[tuple[str, int], Step] = {}  # by kind of manifest and the format that is left behind
READ: Mapping[str, int] = {
    kind.KIND: kind.NUMBER
    for kind in (
        *(Pool, DatasetVersion, Statistics, Evaluation, SetRecord, SuiteManifest),
        *(CyclePlan, CycleRecord, Approval, Champion, FailedTrial, TaskRecord),
    )
}
_MANIFEST = re.compile(
    r"(pools/[^/]+|datasets/[^/]+/(dataset|statistics)|evaluations/[0-9a-f]+/(sets/)?[0-9a-f]{16}(\.first-\d+)?"
    r"|cycles/\d+(\.plan|\.approval)?|(cycles|sweeps)/[^/]+\.stages/failed/[^/]+|pipelines/.+|champion|suite)\.json"
)
_TABLE = re.compile(
    r"(?P<index>shards/[^/]+\.index)\.parquet|(?P<annotations>annotations/[^/]+/[^/]+)\.parquet"
    r"|(?P<scores>scores/[^/]+/[^/]+)\.parquet|(?P<curated>curated/[^/]+/[^/]+)\.parquet"
)
TRIES = 16
AT_ONCE, BATCH = 16, 1024  # requests, and keys that are held


class Found(NamedTuple):
    """One document or table: its kind and format, who wrote it if it says so, and the newest that is read here."""

    key: str
    kind: str
    number: int
    newest: int
    writer: str = ""


def run(config: MigrateConfig) -> dict[str, Any]:
    """What was found and changed. Raises `DataError`, and changes nothing, if anything is of a newer format.

    Raises `NotFoundError` if there is no store. What is damaged is named and left as it is.
    """
    store = open_store(config.store)
    check_not_empty(store)
    damaged: list[str] = []
    formats: Counter[str] = Counter()
    ahead: list[Found] = []
    behind: list[Found] = []
    for found in _look(store):
        if isinstance(found, str):
            damaged.append(found)
            continue
        formats[f"{found.kind} {found.number}"] += 1
        if found.number > found.newest:
            ahead.append(found)
        elif (found.kind, found.number) in STEPS:
            behind.append(found)
    if ahead:
        raise DataError("\n".join(newer(f"{store.uri}/{one.key}", one.number, one.newest, one.writer) for one in ahead))
    changes = [_change(store, one, config.dry_run) for one in behind]
    return {
        "store": store.uri,
        "formats": dict(sorted(formats.items())),
        "changes": changes,
        "damaged": damaged,
        "dry_run": config.dry_run,
        "reason": _reason(len(changes), config.dry_run),
    }


def _reason(changes: int, is_dry: bool) -> str:
    if not changes:
        return "nothing to migrate: this version reads all formats that are there"
    return f"{changes} documents {'would be' if is_dry else 'were'} brought to the formats of this version"


def _look(store: Store) -> Iterator[Found | str]:
    """The formats of all that bears one, or just the key of what is damaged."""
    keys = (key for key in store.list() if _MANIFEST.fullmatch(key) or _TABLE.fullmatch(key))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        while batch := list(itertools.islice(keys, BATCH)):
            yield from filter(None, threads.map(lambda key: _found(store, key), batch))


def _found(store: Store, key: str) -> Found | str | None:
    try:
        if match := _TABLE.fullmatch(key):
            return Found(key, str(match.lastgroup), _table_format(store, key), FORMAT)
        return _manifest(store, key)
    except NotFoundError:
        return None  # gone meanwhile
    except DataError as error:
        log.warning("migrate", f"{error}; it is left as it is")
        return key


def _manifest(store: Store, key: str) -> Found:
    document = _read(store, key)
    kind, number = document.get("kind"), document.get("format")
    if not isinstance(kind, str) or kind not in READ or type(number) is not int:
        raise DataError(f"{store.uri}/{key}: kind {kind!r} of format {number!r} is nothing that this version knows")
    return Found(key, kind, number, READ[kind], Manifest.writer_of(document))


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        document = loads(store.read(key))
    except ValueError as error:
        raise DataError(f"{store.uri}/{key}: damaged: no JSON ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{store.uri}/{key}: damaged: no JSON object")
    return document


def _table_format(store: Store, key: str) -> int:
    try:
        with store.open(key) as file:
            words = pq.read_schema(file).metadata or {}
        return int(words[f"{PREFIX}format".encode()])
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise DataError(f"{store.uri}/{key}: damaged: no table of hqclip ({error})") from error


def _change(store: Store, found: Found, is_dry: bool) -> dict[str, Any]:
    """One document, step by step to the newest format that there are steps to; again if somebody was faster."""
    for _ in range(TRIES):
        seen, document = store.stat(found.key), _read(store, found.key)
        first = number = int(document["format"])
        while step := STEPS.get((found.kind, number)):
            document = {**step(document), "kind": found.kind, "format": number + 1}
            number += 1
        try:
            if not is_dry and number > first:
                store.swap(found.key, canonical_json(document), expected=seen)
            return {"key": found.key, "kind": found.kind, "from": found.number, "to": number}
        except ConflictError:
            continue
    raise ConflictError(f"{store.uri}/{found.key} is being changed all the time; try again when nothing is at work")
