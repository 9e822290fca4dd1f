"""Shards from elsewhere in, verified and indexed shards in the store out, and a manifest that names them.

A shard is copied as it is, or unpacked if it is compressed, and then read from start to end: what is damaged is found
here, not in the middle of training. Its index is written last, so a shard with an index is done. A damaged shard stays
out of the store unless its whole samples are wanted, so that a mended one can take its place.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.config import DownloadConfig
from hqclip.data.index import read_about, write_index
from hqclip.data.shards import REPAIRS, ShardScan, scan_shard
from hqclip.data.sources import list_shards
from hqclip.data.sources.protocol import RemoteShard, Source
from hqclip.data.tar import Damage
from hqclip.data.unpack import unpack
from hqclip.errors import ConflictError, DataError
from hqclip.progress import Progress
from hqclip.provenance import made_by
from hqclip.records import Pool, ShardEntry, digest_of
from hqclip.store import Store, open_store
from hqclip.store.documents import write_manifest
from hqclip.store.leftovers import scratch_folder
from hqclip.store.local import checksum

MEANINGS = {"duplicate_member": ", members whose names came before and that are no whole sample of their own"}


@dataclass(frozen=True)
class Fetched:
    """One shard: its entry, what was refused in it and the first example of each, and where it is damaged, if it is."""

    entry: ShardEntry
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    damage: str = ""
    already_done: bool = False


def run(config: DownloadConfig) -> dict[str, Any]:
    """Bring every shard that is missing, write the pool manifest. Raises `DataError` for damage or many faults."""
    start = time.monotonic()
    store = open_store(config.store)
    shards = list_shards(config.shards)
    with ThreadPoolExecutor(config.parallel) as threads, Progress("download", len(shards), "shards") as progress:
        fetched = []
        for one in threads.map(lambda shard: fetch(store, *shard, keep_damaged=config.skip_damaged), shards):
            fetched.append(one)
            progress.advance()
    faults = sum((one.faults for one in fetched), Counter[str]())
    damaged = {one.entry.name: one.damage for one in fetched if one.damage}
    if damaged and not config.skip_damaged:
        _refuse_damage(fetched)
    for name, damage in damaged.items():
        log.warning("download", f"only what is whole of {name}.tar is kept: {damage}")
    _refuse_many_faults(fetched, faults, config.max_fault_rate)
    entries = tuple(one.entry for one in fetched if one.entry.rows)
    # names and places do not count: the same content is the same pool
    digest = digest_of([[entry.size, entry.crc32c, entry.rows] for entry in entries])
    key = f"pools/{digest}.json"
    if not store.exists(key):
        provenance = made_by("download", config.to_mapping())
        pool = Pool(digest=digest, source=config.shards, shards=entries, refused=dict(faults), provenance=provenance)
        write_manifest(store, key, pool)
    return {
        "pool": key,
        "num_shards": len(entries),
        "rows": sum(entry.rows for entry in entries),
        "faults": dict(faults),
        "damaged": damaged,
        "already_done": sum(one.already_done for one in fetched),
        "seconds": time.monotonic() - start,
    }


def fetch(store: Store, source: Source, shard: RemoteShard, *, keep_damaged: bool) -> Fetched:
    """Copy one shard into the store and index it. Raises `ConflictError` if its name stands for other content there."""
    key = f"shards/{shard.name}"
    index = key.removesuffix(".tar") + ".index.parquet"
    if store.exists(index):
        about = read_about(store, index)
        if str(shard.identity) not in (about["crc32c"], about.get("identity")):
            raise ConflictError(
                f"{store.uri}/{key} is not {shard.uri}, but has its name; rename one or use another store"
            )
        return _fetched_before(key, index, about)
    with scratch_folder() as folder:
        path = folder / "shard.tar"
        source.download(shard, path)
        scan, unpacked = _scan(path)
        with path.open("rb") as file:
            entry = ShardEntry(key, index, *checksum(file), len(scan.rows))
        fetched = Fetched(entry, scan.faults, scan.examples, scan.damage)
        if scan.damage and not (keep_damaged and scan.rows):
            return fetched
        stored = store.write(key, path)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"faults": json.dumps(scan.faults), "examples": json.dumps(scan.examples), "damage": scan.damage}
    if unpacked or isinstance(shard.identity, str):
        about["identity"] = str(shard.identity)  # what a later run compares: it is not the crc32c of what is stored
    write_index(store, index, scan.rows, stored, {**about, "sha256": sha256})
    return fetched


def _fetched_before(key: str, index: str, about: Mapping[str, str]) -> Fetched:
    """What the footer of an index says of its shard. Raises `DataError` if that is damaged."""
    try:
        entry = ShardEntry(key, index, int(about["size"]), int(about["crc32c"]), int(about["rows"]))
        return Fetched(
            entry, Counter(json.loads(about["faults"])), dict(json.loads(about["examples"])), about["damage"], True
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{index}: its footer is damaged ({error!r}); delete it and run the stage again") from error


def _scan(path: Path) -> tuple[ShardScan, bool]:
    """What is in the tar, and whether it came compressed; it lies at `path` afterwards."""
    try:
        unpacked = unpack(path)
    except Damage as damage:
        return ShardScan(damage=str(damage)), False
    return scan_shard(path), unpacked


def _refuse_damage(fetched: Sequence[Fetched]) -> None:
    damaged = [one for one in fetched if one.damage]
    whole = {one.entry.key: f"; {one.entry.rows} samples before that are whole" for one in damaged if one.entry.rows}
    named = "\n".join(f"  {one.entry.name}.tar: {one.damage}{whole.get(one.entry.key, '')}" for one in damaged)
    raise DataError(
        f"{len(damaged)} of {len(fetched)} shards are damaged, the others are done:\n{named}\n"
        "fetch them again, or go on with what is whole: --skip-damaged true"
    )


def _refuse_many_faults(fetched: Sequence[Fetched], faults: Counter[str], limit: float) -> None:
    faults = Counter({fault: number for fault, number in faults.items() if fault not in REPAIRS})
    refused = faults.total()
    total = refused + sum(one.entry.rows for one in fetched)
    if not total:
        raise DataError("the shards hold no sample at all")
    if refused > limit * total:
        first = {
            fault: f"{one.entry.key}: {one.examples[fault]}" for one in reversed(fetched) for fault in one.examples
        }
        reasons = "; ".join(
            f"{number} {fault}{MEANINGS.get(fault, '')} (first: {first[fault]})"
            for fault, number in faults.most_common(5)
        )
        raise DataError(
            f"{refused} of {total} samples cannot be used, more than {limit:.1%}: {reasons}; "
            "mend the shards, or allow more with --max-fault-rate"
        )
