"""Columns beside a shard: what is written is what is read, and nothing else is taken for it."""

from __future__ import annotations

import dataclasses
import io
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hqclip.data.parquet import to_parquet
from hqclip.data.sidecar import (
    ANNOTATIONS,
    UNUSABLE,
    CuratedRow,
    Flag,
    ScoredRow,
    read_annotations,
    read_curated,
    read_scores,
    read_tally,
    write_annotations,
    write_curated,
    write_scores,
)
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import FORMAT, AnnotatedRow, Annotation, ShardEntry, Status
from hqclip.store import Store, open_store

NAN = float("nan")
RING = Annotation(("ring", "größe 🙂"), (), ("a red ring.", "on white."), ("a blue ring.", ""))
FULL = AnnotatedRow("0" * 31 + "a", Status.OK, RING, 700, 90, 2)
BARE = AnnotatedRow("f" * 32, Status.OK, Annotation((), (), (), ()), 1, 2, 1)
ANNOTATED = [
    FULL,
    *(AnnotatedRow(f"{n:032x}", status, None, n, 2**32 - 1, 255) for n, status in enumerate(Status)),
    BARE,
]
CURATED = [
    *(CuratedRow(row.uid, row.status, row.annotation, flags=Flag(0)) for row in ANNOTATED[:-2]),
    CuratedRow("1" * 32, Status.OK, RING, flags=~Flag(0)),
    CuratedRow("2" * 32, Status.OK, RING, flags=Flag.WEAK_ALT_TEXT | Flag.NEGATIVE_REPEATS),
]
SCORED = [ScoredRow(f"{n:032x}", n / 16, -n / 16, NAN if n % 2 else 1.0) for n in range(len(ANNOTATED))]
ENTRY = ShardEntry("shards/00000.tar", "shards/00000.index.parquet", 4096, 2**32 - 7, len(ANNOTATED))

KINDS: dict[str, tuple[Callable[..., None], Callable[..., list[Any]], list[Any]]] = {
    "annotations": (write_annotations, read_annotations, ANNOTATED),
    "curated": (write_curated, read_curated, CURATED),
    "scores": (write_scores, read_scores, SCORED),
}
every_kind = pytest.mark.parametrize(("write", "read", "rows"), KINDS.values(), ids=KINDS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def values(row: Any) -> list[object]:
    """As a list, in which "not a number" equals itself."""
    return ["nan" if isinstance(v, float) and math.isnan(v) else v for v in dataclasses.astuple(row)]


@every_kind
def test_what_is_written_is_what_is_read(store: Store, write: Any, read: Any, rows: list[Any]):
    write(store, "key", rows, ENTRY, "digest")
    found = read(store, "key", ENTRY)
    assert [values(row) for row in found] == [values(row) for row in rows]
    assert [type(row) for row in found] == [type(row) for row in rows]


def test_no_text_is_not_the_same_as_empty_text(store: Store):
    write_annotations(store, "key", ANNOTATED, ENTRY, "digest")
    found = read_annotations(store, "key", ENTRY)
    assert found[-1].annotation == Annotation((), (), (), ())
    assert found[-2].annotation is None


def test_flags_keep_their_bits():
    assert {flag.name: flag.value for flag in Flag} == {
        "DUPLICATE_TAGS": 1,
        "NEGATIVE_TAG_TRUE": 2,
        "NEGATIVE_REPEATS": 4,
        "LOW_SIMILARITY": 8,
        "WEAK_ALT_TEXT": 16,
        "NEGATIVE_LOOKS_TRUE": 32,
        "DUPLICATE_UID": 64,
        "UNREADABLE_IMAGE": 128,
        "REFUSAL_TEXT": 256,
        "REPEATS_ITSELF": 512,
        "PROMPT_ECHO": 1024,
        "INJECTION": 2048,
        "ALT_TEXT_INSTRUCTS": 4096,
        "OTHER_SCRIPT": 8192,
        "OTHER_LANGUAGE": 16384,
        "LONG_TEXT": 32768,
        "CUT_OFF_TEXT": 65536,
        "NEGATIVE_NEARLY_EQUAL": 131072,
        "NEGATIVE_IN_ALT_TEXT": 262144,
        "EASY_NEGATIVE": 524288,
        "UNEVEN_PAIRS": 1048576,
        "DUPLICATE_SENTENCES": 2097152,
        "TAG_TOO_LONG": 4194304,
        "HIDDEN_CHARACTERS": 8388608,
        "PERSONAL_DATA": 16777216,
        "NO_TEXT": 33554432,
    }
    assert Flag(8 | 64 | 128 | 2048 | 33554432) == UNUSABLE


@every_kind
def test_the_same_rows_give_the_same_bytes(store: Store, write: Any, read: Any, rows: list[Any]):
    write(store, "one", rows, ENTRY, "digest")
    write(store, "two", list(rows), ENTRY, "digest")
    assert store.read("one") == store.read("two")
    write(store, "one", rows, ENTRY, "digest")
    with pytest.raises(ConflictError):
        write(store, "one", rows, ENTRY, "other digest")


@every_kind
def test_a_sidecar_without_samples_is_one(store: Store, write: Any, read: Any, rows: list[Any]):
    empty = dataclasses.replace(ENTRY, rows=0)
    write(store, "key", [], empty, "digest")
    assert read(store, "key", empty) == []


@every_kind
def test_one_row_a_sample_or_nothing_is_written(store: Store, write: Any, read: Any, rows: list[Any]):
    for wrong in (rows[1:], [*rows, rows[0]], []):
        with pytest.raises(DataError, match=f"key: {len(wrong)} rows for the {ENTRY.rows} samples of shards/00000.tar"):
            write(store, "key", wrong, ENTRY, "digest")
    assert list(store.list()) == []


@every_kind
@pytest.mark.parametrize("other", [{"crc32c": 7}, {"rows": 12}])
def test_a_sidecar_of_other_content_is_refused(
    store: Store, write: Any, read: Any, rows: list[Any], other: dict[str, int]
):
    write(store, "key", rows, ENTRY, "digest")
    with pytest.raises(DataError, match="key was made for another content of shards/00000.tar"):
        read(store, "key", dataclasses.replace(ENTRY, **other))


@every_kind
def test_a_sidecar_of_another_kind_is_refused(store: Store, write: Any, read: Any, rows: list[Any]):
    for kind, (write_other, read_other, other) in KINDS.items():
        write_other(store, kind, other, ENTRY, "digest")
        if read_other is not read:
            with pytest.raises(DataError, match=f"{kind} has the columns uid, "):
                read(store, kind, ENTRY)


@every_kind
def test_a_newer_format_is_refused(store: Store, write: Any, read: Any, rows: list[Any]):
    write(store, "now", rows, ENTRY, "digest")
    table = pq.read_table(io.BytesIO(store.read("now")))
    metadata = {**table.schema.metadata, b"hqclip.format": str(FORMAT + 1).encode()}
    table = table.append_column("more", pa.array([0] * len(table))).replace_schema_metadata(metadata)
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    store.write("newer", buffer.getvalue())
    with pytest.raises(DataError, match="newer: format 2 is newer than 1; upgrade hqclip"):
        read(store, "newer", ENTRY)


def test_a_table_of_someone_else_is_refused(store: Store):
    buffer = io.BytesIO()
    pq.write_table(pa.table({"uid": ["a"]}), buffer)
    store.write("foreign", buffer.getvalue())
    with pytest.raises(DataError, match="foreign: not a table of hqclip"):
        read_annotations(store, "foreign", ENTRY)


def test_what_does_not_exist_is_not_found(store: Store):
    with pytest.raises(NotFoundError, match="nothing"):
        read_scores(store, "nothing", ENTRY)


@pytest.mark.parametrize("garbage", [b"", b"PAR1", b"PAR1" * 100, b"{}", bytes(1000)])
def test_garbage_is_named(store: Store, garbage: bytes):
    store.write("key", garbage)
    with pytest.raises(DataError, match="key: not a whole Parquet file .* delete it and run the stage again"):
        read_annotations(store, "key", ENTRY)


def test_altered_bytes_are_refused_or_change_nothing(store: Store):
    rng = np.random.default_rng(3)
    write_annotations(store, "good", ANNOTATED, ENTRY, "digest")
    good = store.read("good")
    refused = 0
    for at in rng.integers(0, len(good), 150):
        altered = bytearray(good)
        altered[at] ^= 1 << int(rng.integers(8))
        store.write("altered", bytes(altered), create_only=False)
        try:
            found = read_annotations(store, "altered", ENTRY)
        except DataError:
            refused += 1
        else:
            assert found == ANNOTATED
    assert refused > 50


def test_any_shortening_is_refused(store: Store):
    write_annotations(store, "good", ANNOTATED, ENTRY, "digest")
    good = store.read("good")
    for length in range(0, len(good), 101):
        store.write("cut", good[:length], create_only=False)
        with pytest.raises(DataError, match="cut"):
            read_annotations(store, "cut", ENTRY)


def test_what_is_said_about_a_table_is_in_its_metadata():
    table = pa.Table.from_pylist([], ANNOTATIONS)
    metadata = pq.read_schema(io.BytesIO(to_parquet(table, {"rows": 0, "annotator": "abc"}))).metadata
    assert metadata.items() >= {b"hqclip.rows": b"0", b"hqclip.annotator": b"abc", b"hqclip.format": b"1"}.items()


def test_no_damaged_bit_of_a_footer_changes_what_its_rows_add_up_to(store: Store):
    rows = [AnnotatedRow(f"{n:032x}", Status.OK, RING, 300 + n, 40) for n in range(ENTRY.rows)]
    write_annotations(store, "key", rows, ENTRY, "digest")
    data = store.read("key")
    tally, found = read_tally(store, "key", "digest"), Counter[str]()
    for place in range(len(data) - 8 - int.from_bytes(data[-8:-4], "little"), len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1 << place % 8
        store.write("damaged", bytes(damaged), create_only=False)
        try:
            assert read_tally(store, "damaged", "digest") == tally
            found["harmless"] += 1
        except DataError:
            found["refused"] += 1
    assert found["refused"] > 300


def test_a_footer_of_the_first_version_has_no_checksum_and_is_read(store: Store):
    rows = [AnnotatedRow(f"{n:032x}", Status.OK, RING, 300, 40) for n in range(ENTRY.rows)]
    write_annotations(store, "key", rows, ENTRY, "digest")
    table = pq.read_table(io.BytesIO(store.read("key")))
    words = {name: value for name, value in table.schema.metadata.items() if name != b"hqclip.about_crc32c"}
    assert len(words) == len(table.schema.metadata) - 1
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(words), buffer, compression="zstd")
    store.write("old", buffer.getvalue())
    assert read_tally(store, "old", "digest") == read_tally(store, "key", "digest")
    assert read_annotations(store, "old", ENTRY) == rows
    words[b"hqclip.tally"] = b'{"statuses": {"ok": "11"}}'
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(words), buffer)
    store.write("older", buffer.getvalue())
    with pytest.raises(DataError, match="older has no tally"):
        read_tally(store, "older", "digest")


def test_curated_texts_have_the_bytes_they_always_had(store: Store):
    """The digest of a data set covers them, so nothing may be added to their footer."""
    rows = [CuratedRow(f"{n:032x}", Status.OK, RING) for n in range(ENTRY.rows)]
    write_curated(store, "key", rows, ENTRY, "digest")
    names = set(pq.read_schema(io.BytesIO(store.read("key"))).metadata)
    assert names == {b"hqclip.crc32c", b"hqclip.rows", b"hqclip.annotator", b"hqclip.format"}
