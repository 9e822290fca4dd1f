"""A data set version: which shards with which curated texts, under the digest of their content."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

import pyarrow as pa

from hqclip.data.parquet import read_table, to_bytes
from hqclip.errors import ConflictError, DataError
from hqclip.records import DatasetVersion, ShardEntry, digest_of
from hqclip.store import Store
from hqclip.store.documents import read_json


@dataclass(frozen=True)
class DatasetShard:
    """One row of `shards.parquet`: a shard with its curated sidecar and its scores ("" without a champion)."""

    key: str
    index: str
    size: int
    crc32c: int
    rows: int
    curated: str
    curated_crc32c: int
    scores: str
    usable_rows: int

    @property
    def entry(self) -> ShardEntry:
        """The shard itself."""
        return ShardEntry(self.key, self.index, self.size, self.crc32c, self.rows)


@dataclass(frozen=True)
class Contents:
    """What a version is made of, in shard order; `tags` counts every tag of usable rows."""

    shards: tuple[DatasetShard, ...]
    tags: Counter[str]


def content_digest(contents: Contents, vocabulary: Sequence[str]) -> str:
    """Covers what is trained on and nothing else: not names, places, times or runs."""
    rows = [[s.size, s.crc32c, s.rows, s.curated_crc32c, s.usable_rows] for s in contents.shards]
    return digest_of([rows, list(vocabulary)])


def vocabulary(tags: Counter[str], size: int) -> dict[str, int]:
    """The `size` most frequent tags with their counts, most frequent first, ties by text."""
    return dict(sorted(tags.items(), key=lambda item: (-item[1], item[0]))[:size])


def write_dataset(store: Store, contents: Contents, vocabulary: dict[str, int], version: DatasetVersion) -> str:
    """Write the tables and, last, the manifest; its key. The version that exists is left as it is.

    Tables without a manifest are those of a try that was cut short. Who writes at the same time writes the same
    content, if not the same places: the digest covers it.
    """
    folder = f"datasets/{version.digest}"
    key = f"{folder}/dataset.json"
    if store.exists(key):
        return key
    columns = {f.name: [getattr(s, f.name) for s in contents.shards] for f in fields(DatasetShard)}
    tags = json.dumps(vocabulary, ensure_ascii=False, indent=0).encode() + b"\n"
    store.write(f"{folder}/shards.parquet", to_bytes(pa.table(columns)), create_only=False)
    store.write(f"{folder}/tags.json", tags, create_only=False)
    with suppress(ConflictError):  # somebody was quicker
        store.write(key, version.to_json())
    return key


def read_dataset(store: Store, key: str) -> tuple[DatasetVersion, tuple[DatasetShard, ...], dict[str, int]]:
    """The manifest, its shards and its tag vocabulary (tag -> count). Raises `NotFoundError`, `DataError`."""
    version = DatasetVersion.from_json(store.read(key), key)
    folder = key.rpartition("/")[0]
    tags = read_tags(store, folder)
    try:
        shards = tuple(DatasetShard(**row) for row in read_table(store, f"{folder}/shards.parquet").to_pylist())
    except TypeError as error:
        raise DataError(f"{folder}/shards.parquet has other columns ({error}); run `hqclip curate` again") from error
    if content_digest(Contents(shards, Counter()), list(tags)) != version.digest:
        raise DataError(f"{key}: shards.parquet or tags.json are not those of this version; run `hqclip curate` again")
    return version, shards, tags


def read_tags(store: Store, folder: str) -> dict[str, int]:
    """The tag vocabulary of a version (tag -> count), most frequent first. Raises `NotFoundError`, `DataError`."""
    key, again = f"{folder}/tags.json", "delete the version and run `hqclip curate` again"
    tags = read_json(store, key, again)
    if not all(type(count) is int and count >= 0 for count in tags.values()):
        raise DataError(f"{store.uri}/{key} is damaged: not a count for each tag; {again}")
    return tags
