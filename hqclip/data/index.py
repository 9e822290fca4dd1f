"""What is in a shard, beside it as Parquet: one row a usable sample in tar order; and the images by row."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.records import FORMAT, ShardEntry
from hqclip.store import ObjectInfo, Store
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
    store.write(key, to_parquet(pa.table(columns, SCHEMA), {**about, **identity}))


def read_about(store: Store, key: str) -> dict[str, str]:
    """The metadata of an index: `size`, `crc32c`, `sha256`, `rows`, and what `download` refused. Raises `DataError`."""
    return _about(read_table(store, key).schema, key)


def _about(schema: pa.Schema, key: str) -> dict[str, str]:
    """Raises `DataError` if this is of a newer format or not ours."""
    metadata = schema.metadata or {}
    words = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in metadata.items()}
    about = {name.removeprefix("hqclip."): value for name, value in words.items()}
    if not about.get("format", "").isdecimal() or "crc32c" not in about:
        raise DataError(f"{key}: not a table of hqclip; delete it and run the stage again")
    if int(about["format"]) > FORMAT:
        raise DataError(f"{key}: format {about['format']} is newer than {FORMAT}; upgrade hqclip")
    return about


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
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shard.tar"
            store.download(entry.key, path)
            return path.open("rb")  # an open file outlives its name
    path = cache_dir / f"{entry.name}-{entry.size}-{entry.crc32c:08x}.tar"
    if not path.is_file():
        store.download(entry.key, path)
    return path.open("rb")


def to_parquet(table: pa.Table, about: dict[str, Any]) -> bytes:
    """One row group, zstd; `about` and the format number as file metadata. The same rows give the same bytes."""
    metadata = {f"hqclip.{name}": str(value) for name, value in {**about, "format": FORMAT}.items()}
    buffer = io.BytesIO()
    table = table.replace_schema_metadata(metadata)
    pq.write_table(table, buffer, compression="zstd", row_group_size=1 << 20, write_page_checksum=True)
    return buffer.getvalue()


def read_table(store: Store, key: str) -> pa.Table:
    """Any Parquet file, its page checksums verified. Raises `NotFoundError`, and `DataError` if it is damaged."""
    data = store.read(key)
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: not a whole Parquet file ({error}); delete it and run the stage again") from error
    return table


def read_footer(store: Store, key: str) -> dict[str, str]:
    """The metadata of a table, without its rows. Raises `NotFoundError`, and `DataError` if it is damaged."""
    try:
        with store.open(key) as file, faults_at(Path(f"{store.uri}/{key}")):
            return _about(pq.read_schema(file), key)
    except pa.ArrowException as error:
        raise DataError(f"{key}: not a whole Parquet file ({error}); delete it and run the stage again") from error


def read_parquet(store: Store, key: str, entry: ShardEntry, schema: pa.Schema, *, whole: bool = True) -> pa.Table:
    """A table that was written for the content of `entry`, with all of its rows if it is `whole`.

    Raises `DataError` if it was not, or if it is of a newer format.
    """
    table = read_table(store, key)
    about = _about(table.schema, key)
    if about["crc32c"] != str(entry.crc32c) or (whole and len(table) != entry.rows):
        raise DataError(f"{key} was made for another content of {entry.key}; delete it and run the stage again")
    if not table.schema.equals(schema):
        raise DataError(f"{key} has the columns {', '.join(table.column_names)}; delete it and run the stage again")
    return table
