"""What is in a shard, beside it as Parquet: one row a usable sample in tar order; and the images by row."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import pyarrow as pa

from hqclip.data.parquet import about_of, read_parquet, read_table, to_parquet
from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.records import ShardEntry
from hqclip.store import ObjectInfo, Store
from hqclip.store.leftovers import scratch_folder
from hqclip.store.local import LocalStore, checksum, faults_at

SCHEMA = pa.schema(
    [
        ("row", pa.uint32()),
        ("uid", pa.binary(16)),
        ("image_offset", pa.uint64()),
        ("image_size", pa.uint32()),
        ("text", pa.string()),
        ("width", pa.uint16()),
        ("height", pa.uint16()),
        ("sha256", pa.binary(32)),
    ]
)


@dataclass(frozen=True)
class ShardIndex:
    """Columns of a shard's index, in tar order."""

    uids: list[str]
    texts: list[str]
    offsets: list[int]
    sizes: list[int]


def write_index(store: Store, key: str, rows: Sequence[Row], shard: ObjectInfo, about: dict[str, str]) -> None:
    """Write the index of a shard that is stored as `shard`; `about` is further metadata."""
    columns = {
        "row": range(len(rows)),
        "uid": [bytes.fromhex(row.uid) for row in rows],
        **{name: [getattr(row, name) for row in rows] for name in SCHEMA.names[2:]},
    }
    identity = {"size": shard.size, "crc32c": shard.crc32c, "rows": len(rows)}
    store.write(key, to_parquet(pa.table(columns, SCHEMA), {**about, **identity}, sealed=True))


def read_about(store: Store, key: str) -> dict[str, str]:
    """The metadata of an index: `size`, `crc32c`, `sha256`, `rows`, and what `download` refused. Raises `DataError`."""
    return about_of(read_table(store, key).schema, key)


def read_index(store: Store, entry: ShardEntry) -> ShardIndex:
    """The index of a shard. Raises `DataError` if it belongs to other content than `entry` names."""
    table = read_parquet(store, entry.index, entry, SCHEMA)
    return ShardIndex(
        [uid.hex() for uid in table["uid"].to_pylist()],
        table["text"].to_pylist(),
        table["image_offset"].to_pylist(),
        table["image_size"].to_pylist(),
    )


class ShardImages:
    """Images of one shard by row, for any number of threads; the shard is verified once, when it is opened.

    A local shard is read where it lies. From a bucket it is fetched once: to `cache_dir`, where later openings find
    it, or to a temporary place that is given back on closing. Raises `DataError` if it is not what `entry` names.
    """

    def __init__(
        self, store: Store, entry: ShardEntry, index: ShardIndex | None = None, cache_dir: Path | None = None
    ) -> None:
        self._index = index or read_index(store, entry)
        self._where = f"{store.uri}/{entry.key}"
        self._file = store.open(entry.key) if isinstance(store, LocalStore) else _local_copy(store, entry, cache_dir)
        if checksum(self._file) != (entry.size, entry.crc32c):
            self._file.close()
            raise DataError(
                f"{self._where} is not the shard that was indexed: it was damaged or replaced; "
                "delete it and its index, and run `hqclip download` again"
            )

    def __enter__(self) -> ShardImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, row: int) -> bytes:
        """The bytes of one image, as they are in the tar."""
        with faults_at(Path(self._where)):  # pread: threads share the file, but no place in it
            return os.pread(self._file.fileno(), self._index.sizes[row], self._index.offsets[row])


def _local_copy(store: Store, entry: ShardEntry, cache_dir: Path | None) -> BinaryIO:
    if cache_dir is None:
        with scratch_folder() as folder:
            path = folder / "shard.tar"
            store.download(entry.key, path)
            return path.open("rb")  # an open file outlives its name
    path = cache_dir / f"{entry.name}-{entry.size}-{entry.crc32c:08x}.tar"
    if not path.is_file():
        store.download(entry.key, path)
    return path.open("rb")
