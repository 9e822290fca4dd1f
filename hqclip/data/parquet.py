"""Tables as Parquet: the same rows give the same bytes; what is damaged or of other content is refused."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import google_crc32c
import pyarrow as pa
import pyarrow.parquet as pq

from hqclip.errors import DataError
from hqclip.records import FORMAT, ShardEntry, canonical_json
from hqclip.store import Store
from hqclip.store.local import faults_at

PREFIX = "hqclip."
SEAL = "about_crc32c"


def to_parquet(table: pa.Table, about: dict[str, Any], *, sealed: bool = False) -> bytes:
    """One row group, zstd; `about` and the format number as file metadata. The same rows give the same bytes.

    Pages have checksums of their own, the metadata has one if it is `sealed`: where it says what no row does.
    """
    words = {name: str(value) for name, value in {**about, "format": FORMAT}.items()}
    if sealed:
        words[SEAL] = _crc32c(words)
    table = table.replace_schema_metadata({f"{PREFIX}{name}": value for name, value in words.items()})
    return to_bytes(table, row_group_size=1 << 20, write_page_checksum=True)


def to_bytes(table: pa.Table, **layout: Any) -> bytes:
    """A table as it is, zstd. The same rows give the same bytes."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", **layout)
    return buffer.getvalue()


def read_table(store: Store, key: str) -> pa.Table:
    """Any Parquet file, its page checksums verified. Raises `NotFoundError`, and `DataError` if it is damaged."""
    return parse_table(store.read(key), key)


def parse_table(data: bytes, key: str) -> pa.Table:
    """The Parquet file that is in `data`. Raises `DataError` as `read_table` does."""
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        table.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{key}: not a whole Parquet file ({error}); delete it and run the stage again") from error
    return table


def read_footer(store: Store, key: str) -> dict[str, str]:
    """The metadata of a table, without its rows. Raises `NotFoundError`, and `DataError` if it is damaged."""
    with store.open(key) as file, faults_at(Path(f"{store.uri}/{key}")):
        try:
            return about_of(pq.read_schema(file), key)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            if getattr(error, "errno", None):
                raise  # the disk's or the service's; what Arrow cannot make sense of has no number
            raise DataError(f"{key}: not a whole Parquet file ({error}); delete it and run the stage again") from error


def read_parquet(store: Store, key: str, entry: ShardEntry, schema: pa.Schema, *, whole: bool = True) -> pa.Table:
    """A table that was written for the content of `entry`, with all of its rows if it is `whole`.

    Raises `DataError` if it was not, or if it is of a newer format.
    """
    table = read_table(store, key)
    about = about_of(table.schema, key)
    if about["crc32c"] != str(entry.crc32c) or (whole and len(table) != entry.rows):
        raise DataError(f"{key} was made for another content of {entry.key}; delete it and run the stage again")
    if not table.schema.equals(schema):
        raise DataError(f"{key} has the columns {', '.join(table.column_names)}; delete it and run the stage again")
    return table


def about_of(schema: pa.Schema, key: str) -> dict[str, str]:
    """The metadata of a table of ours. Raises `DataError` if it is damaged, of a newer format or none."""
    metadata = schema.metadata or {}
    words = {name.decode(errors="replace"): value.decode(errors="replace") for name, value in metadata.items()}
    about = {name.removeprefix(PREFIX): value for name, value in words.items() if name.startswith(PREFIX)}
    seal = about.pop(SEAL, None)
    if not about.get("format", "").isdecimal() or "crc32c" not in about:
        raise DataError(f"{key}: not a table of hqclip; delete it and run the stage again")
    if int(about["format"]) > FORMAT:
        raise DataError(f"{key}: format {about['format']} is newer than {FORMAT}; upgrade hqclip")
    if seal not in (None, _crc32c(about)):  # files of 0.1 have none
        raise DataError(f"{key}: its footer is damaged; delete it and run the stage again")
    return about


def _crc32c(about: dict[str, str]) -> str:
    return str(google_crc32c.value(canonical_json(about)))
