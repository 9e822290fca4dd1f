"""Columns that belong to a shard's samples, row by row: annotations, their cleaned form, similarities.

A sidecar has exactly one row a sample in the order of the shard's index, and names the content of its shard: a
sidecar that exists is complete, and one for other content is refused.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Any

import pyarrow as pa

from hqclip.data.parquet import read_footer, read_parquet, to_parquet
from hqclip.errors import DataError
from hqclip.records import FIELDS, AnnotatedRow, Annotation, ShardEntry, Status
from hqclip.store import Store


class Flag(IntFlag):
    """What `curate` found in a row, as its rules say; the bits are on disk, so they never change meaning."""

    DUPLICATE_TAGS = 1
    NEGATIVE_TAG_TRUE = 2
    NEGATIVE_REPEATS = 4
    LOW_SIMILARITY = 8
    WEAK_ALT_TEXT = 16
    NEGATIVE_LOOKS_TRUE = 32
    DUPLICATE_UID = 64
    UNREADABLE_IMAGE = 128
    REFUSAL_TEXT = 256
    REPEATS_ITSELF = 512
    PROMPT_ECHO = 1024
    INJECTION = 2048
    ALT_TEXT_INSTRUCTS = 4096
    OTHER_SCRIPT = 8192
    OTHER_LANGUAGE = 16384
    LONG_TEXT = 32768
    CUT_OFF_TEXT = 65536
    NEGATIVE_NEARLY_EQUAL = 131072
    NEGATIVE_IN_ALT_TEXT = 262144
    EASY_NEGATIVE = 524288
    UNEVEN_PAIRS = 1048576
    DUPLICATE_SENTENCES = 2097152
    TAG_TOO_LONG = 4194304
    HIDDEN_CHARACTERS = 8388608
    PERSONAL_DATA = 16777216
    NO_TEXT = 33554432


UNUSABLE = Flag.LOW_SIMILARITY | Flag.DUPLICATE_UID | Flag.UNREADABLE_IMAGE | Flag.INJECTION | Flag.NO_TEXT

ANNOTATIONS = pa.schema(
    [
        ("uid", pa.binary(16)),
        *((name, pa.list_(pa.string())) for name in ("desc", "neg_desc", "tags", "neg_tags")),
        ("status", pa.string()),
        ("prompt_tokens", pa.uint32()),
        ("output_tokens", pa.uint32()),
        ("attempts", pa.uint8()),
        ("answer", pa.string()),
    ]
)
CURATED = ANNOTATIONS.remove(ANNOTATIONS.get_field_index("answer")).append(pa.field("flags", pa.uint32()))
SCORES = pa.schema([("uid", pa.binary(16)), *((f"sim_{name}", pa.float32()) for name in ("text", "desc", "neg_desc"))])


@dataclass(frozen=True)
class CuratedRow(AnnotatedRow):
    """An annotated row with its texts cleaned and what was found in it."""

    flags: Flag = Flag(0)


@dataclass(frozen=True)
class Tally:
    """What the rows of one sidecar, or of many, add up to; `retried` took more than one attempt."""

    statuses: Mapping[str, int]
    prompt_tokens: int = 0
    output_tokens: int = 0
    retried: int = 0

    @classmethod
    def of(cls, rows: Sequence[AnnotatedRow]) -> Tally:
        """The tally of these rows."""
        return cls(
            dict(sorted(Counter(str(row.status) for row in rows).items())),
            sum(row.prompt_tokens for row in rows),
            sum(row.output_tokens for row in rows),
            sum(row.attempts > 1 for row in rows),
        )

    def __add__(self, other: Tally) -> Tally:
        statuses = Counter(self.statuses) + Counter(other.statuses)
        return Tally(
            dict(sorted(statuses.items())),
            self.prompt_tokens + other.prompt_tokens,
            self.output_tokens + other.output_tokens,
            self.retried + other.retried,
        )

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(self.statuses.values())


@dataclass(frozen=True)
class ScoredRow:
    """Cosines of an image with its texts; NaN where there is no such text."""

    uid: str
    sim_text: float
    sim_desc: float
    sim_neg_desc: float


def write_annotations(store: Store, key: str, rows: Sequence[AnnotatedRow], entry: ShardEntry, annotator: str) -> None:
    """With their tally in the file's metadata. Raises `DataError` unless there is one row a sample."""
    about = {"annotator": annotator, "tally": json.dumps(vars(Tally.of(rows)), sort_keys=True)}
    _write(store, key, ANNOTATIONS, [_annotation_values(row) for row in rows], entry, about)


def read_annotations(store: Store, key: str, entry: ShardEntry) -> list[AnnotatedRow]:
    """Raises `NotFoundError`, and `DataError` if the sidecar belongs to other content."""
    return [AnnotatedRow(**_row(values)) for values in read_parquet(store, key, entry, ANNOTATIONS).to_pylist()]


def read_tally(store: Store, key: str, annotator: str) -> Tally:
    """What the rows of a sidecar add up to, from its footer alone.

    Raises `NotFoundError`, and `DataError` if the sidecar is damaged or another annotator's.
    """
    about = read_footer(store, key)
    if about.get("annotator") != annotator:
        raise DataError(
            f"{key} was made by the annotator {about.get('annotator')}, not by {annotator} (another model, prompt or "
            "setting): a folder holds the work of one annotator; move it away, or give another store"
        )
    try:
        tally = Tally(**json.loads(about["tally"]))
        numbers = [*tally.statuses.values(), tally.prompt_tokens, tally.output_tokens, tally.retried]
        if not all(type(number) is int for number in numbers):
            raise TypeError(f"not numbers: {numbers}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{key} has no tally ({error!r}); delete it and run the stage again") from error
    return tally


def write_part(store: Store, key: str, rows: Sequence[AnnotatedRow], entry: ShardEntry) -> None:
    """Some rows of a shard that is not finished, in any order."""
    table = pa.Table.from_pylist([_annotation_values(row) for row in rows], ANNOTATIONS)
    store.write(key, to_parquet(table, {"crc32c": entry.crc32c, "rows": len(rows)}))


def read_part(store: Store, key: str, entry: ShardEntry) -> list[AnnotatedRow]:
    """Raises `DataError` if the part is damaged or belongs to other content."""
    table = read_parquet(store, key, entry, ANNOTATIONS, whole=False)
    return [AnnotatedRow(**_row(values)) for values in table.to_pylist()]


def write_curated(store: Store, key: str, rows: Sequence[CuratedRow], entry: ShardEntry, annotator: str) -> None:
    """Answers of the LVLM are left behind. Raises `DataError` unless there is one row a sample."""
    values = [{**_annotation_values(row), "flags": int(row.flags)} for row in rows]
    _write(store, key, CURATED, values, entry, {"annotator": annotator})


def read_curated(store: Store, key: str, entry: ShardEntry) -> list[CuratedRow]:
    """Raises `NotFoundError`, and `DataError` if the sidecar belongs to other content."""
    table = read_parquet(store, key, entry, CURATED)
    return [CuratedRow(**_row(values), flags=Flag(values["flags"])) for values in table.to_pylist()]


def write_scores(store: Store, key: str, rows: Sequence[ScoredRow], entry: ShardEntry, model: str) -> None:
    """Raises `DataError` unless there is one row a sample."""
    values = [{**vars(row), "uid": bytes.fromhex(row.uid)} for row in rows]
    _write(store, key, SCORES, values, entry, {"model": model})


def read_scores(store: Store, key: str, entry: ShardEntry) -> list[ScoredRow]:
    """Raises `NotFoundError`, and `DataError` if the sidecar belongs to other content."""
    table = read_parquet(store, key, entry, SCORES)
    return [ScoredRow(**{**values, "uid": values["uid"].hex()}) for values in table.to_pylist()]


def _write(
    store: Store, key: str, schema: pa.Schema, values: list[dict[str, Any]], entry: ShardEntry, about: dict[str, str]
) -> None:
    """Sealed is what adds its rows up. Curated texts are not: the digest of a data set covers their very bytes."""
    if len(values) != entry.rows:
        raise DataError(f"{key}: {len(values)} rows for the {entry.rows} samples of {entry.key}")
    table = pa.Table.from_pylist(values, schema)
    about = {"crc32c": str(entry.crc32c), "rows": str(entry.rows), **about}
    store.write(key, to_parquet(table, about, sealed="tally" in about))


def _annotation_values(row: AnnotatedRow) -> dict[str, Any]:
    texts = {name: list(getattr(row.annotation, name)) if row.annotation else None for name in FIELDS}
    return {
        "uid": bytes.fromhex(row.uid),
        **texts,
        "status": str(row.status),
        "prompt_tokens": row.prompt_tokens,
        "output_tokens": row.output_tokens,
        "attempts": row.attempts,
        "answer": row.answer or None,
    }


def _row(values: dict[str, Any]) -> dict[str, Any]:
    said = values["desc"] is not None
    return {
        "uid": values["uid"].hex(),
        "status": Status(values["status"]),
        "annotation": Annotation(**{name: tuple(values[name]) for name in FIELDS}) if said else None,
        **{name: values[name] for name in ("prompt_tokens", "output_tokens", "attempts")},
        "answer": values.get("answer") or "",
    }
