"""`hqclip gc`: settings in, what nothing in force refers to out, said or deleted.

While it deletes it holds the lock of the store, and every task of a pipeline that begins waits until it is through. It
holds nothing up otherwise: where anything is at work already, nothing is deleted, and the next call comes again.

It may be killed anywhere. Who refers goes before what it refers to, and of each thing first the document that says it
is complete: so what a document names is there, and what is left without one goes with the next call.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hqclip import log
from hqclip.cycle import lock
from hqclip.cycle.garbage.config import GcConfig
from hqclip.cycle.garbage.survey import DAY_S, Survey, Unit, survey
from hqclip.cycle.notices import tell_gc_failed
from hqclip.errors import ConflictError, HQClipError
from hqclip.store import Listed, Store, open_store
from hqclip.termination import told_at_once

AT_ONCE = 16  # requests
BATCH = 256  # objects between two looks at the lock
FIRST = (".index.parquet", "/result.json", "/dataset.json", "/receipt.json")  # with them something is complete
LAST = ("/config.json", "/annotator.json")  # with them it is known what the rest is


def run(config: GcConfig) -> dict[str, Any]:
    """What would go, or what went; with `reason` if nothing may be deleted now. Raises what `survey` raises.

    Whoever the environment names is told of a fault, and of nothing else.
    """
    store = open_store(config.store)
    try:
        return _run(config, store)
    except HQClipError as error:
        tell_gc_failed(store, error)
        raise


def _run(config: GcConfig, store: Store) -> dict[str, Any]:
    owner = lock.gc_name()
    if not config.delete:
        found = survey(store, config, owner)
        return _result(store, found, found.units, _at_work(found) or "nothing was deleted; --delete does it")
    if next(iter(store.list()), None) is not None and (busy := lock.take(store, owner, 0)):
        return {"store": store.uri, "deleted": False, "reason": busy.reason, "objects": 0, "bytes": 0, "rows": []}
    try:
        with told_at_once(lambda: lock.mark_ending(store, owner)), lock.held(store, owner):
            found = survey(store, config, owner)
            if reason := _at_work(found):
                return _result(store, found, found.units, reason)
            gone = list(_delete_units(store, found, owner, config.most_minutes * 60))
            left = len(found.units) - len(gone)
            return _result(store, found, gone, f"{left} left to the next call" if left else "", deleted=True)
    finally:
        lock.release(store, owner)


def _delete_units(store: Store, found: Survey, owner: str, within_s: float) -> Iterator[Unit]:
    """Delete unit by unit; those that are gone. One that somebody has written to meanwhile stays."""
    end = time.monotonic() + within_s
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for unit in found.units:
            if unit.kind != "shards" and any(one.changed > found.limit for one in store.scan(unit.prefix)):
                log.warning("gc", f"{unit.what}: somebody writes to it; it stays")
                continue
            for keys in _batches(key for step in (0, 1, 2) for key in _keys(store, found, unit, step)):
                if time.monotonic() > end:
                    return
                if not lock.is_held_by(store, owner):
                    raise ConflictError(f"{store.uri}: somebody else took the lock meanwhile; run `hqclip gc` again")
                list(pool.map(store.delete, keys))
            log.info("gc", f"deleted {unit.what}: {unit.objects} objects, {_size(unit.size)}")
            yield unit


def _keys(store: Store, found: Survey, unit: Unit, step: int) -> Iterator[str]:
    """Keys of a unit that are to be deleted in this step; none of two steps are in one batch."""
    for one in store.scan(unit.prefix):
        if _step(unit, one) == step and found.goes(unit, one):
            yield one.key
    yield ""


def _step(unit: Unit, one: Listed) -> int:
    if unit.kind == "evaluations":
        return 0 if one.key == f"{unit.prefix}json" else 1
    return 0 if one.key.endswith(FIRST) else 2 if one.key.endswith(LAST) else 1


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    """Batches that end where an empty key stands."""
    rest = iter(keys)
    for key in rest:
        batch = list(itertools.takewhile(bool, itertools.chain([key], itertools.islice(rest, BATCH - 1))))
        if batch:
            yield batch


def _at_work(found: Survey) -> str:
    return f"nothing was deleted: {'; '.join(found.alive[:3])}; try again when it is done" if found.alive else ""


def _result(
    store: Store, found: Survey, units: Sequence[Unit], reason: str, *, deleted: bool = False
) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {
            "kind": unit.kind,
            "what": unit.what,
            "objects": unit.objects,
            "bytes": unit.size,
            "days": round(max(0.0, found.now - unit.changed) / DAY_S, 1),
            "why": unit.why,
        }
        for unit in units
    ]
    _say(rows)
    sums = {name: sum(row[name] for row in rows) for name in ("objects", "bytes")}
    return {"store": store.uri, "deleted": deleted, "reason": reason, **sums, "rows": rows}


def _say(rows: Sequence[dict[str, Any]]) -> None:
    """A table for people, on stderr."""
    for row in rows:
        about = f"{row['kind']:<12} {_size(row['bytes']):>9} {row['days']:>7.1f} d  {row['what']}"
        log.info("gc", f"{about}: {row['why']}")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"
