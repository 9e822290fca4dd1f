"""What is in a shard, beside it as Parquet: one row a usable sample in tar order; and the images by row."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.records import FORMAT, ShardEntry
from hqclip.store import ObjectInfo, Store

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
    about = {name.decode().removeprefix("hqclip."): value.decode() for name, value in metadata.items()}
    if not about.get("format", "").isdecimal() or "crc32c" not in about:
        raise DataError(f"{key}: not a table of hqclip; delete it and run the stage again")
    if int(about["format"]) > FORMAT:
        raise DataError(f"{key}: format {about['format']} is newer than {FORMAT}; upgrade hqclip")
    return about


def read_index(store: Store, entry: ShardEntry) -> ShardIndex:
    """The index of a shard. Raises `DataError` if it belongs to other content than `entry` names."""
    table = read_parquet(store, entry.index, entry)
    return ShardIndex(
        [uid.hex() for uid in table["uid"].to_pylist()],
        table["text"].to_pylist(),
        table["image_offset"].to_pylist(),
        table["image_size"].to_pylist(),
    )


class ShardImages:
    """Images of one shard by row, read where they lie."""

    def __init__(self, store: Store, entry: ShardEntry, index: ShardIndex | None = None) -> None:
        self._index = index or read_index(store, entry)
        self._file = store.open(entry.key)

    def __enter__(self) -> ShardImages:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def read(self, row: int) -> bytes:
        """The bytes of one image, as they are in the tar."""
        self._file.seek(self._index.offsets[row])
        return self._file.read(self._index.sizes[row])


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


def read_parquet(store: Store, key: str, entry: ShardEntry) -> pa.Table:
    """A table that was written for the content of `entry`. Raises `DataError` if not, or if it is of a newer format."""
    table = read_table(store, key)
    about = _about(table.schema, key)
    if about["crc32c"] != str(entry.crc32c) or len(table) != entry.rows:
        raise DataError(f"{key} was made for another content of {entry.key}; delete it and run the stage again")
    return table
