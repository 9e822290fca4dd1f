"""Answers that were paid for, in parts as they come: what is written down is never asked again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hqclip.data.parquet import read_table, to_parquet
from hqclip.errors import DataError
from hqclip.records import FIELDS, Annotation, Status
from hqclip.store import Store

PART_ROWS, PART_S = 64, 20.0  # the most that a kill can lose
ANSWERS = pa.schema(
    [
        ("uid", pa.binary(16)),
        ("sha256", pa.binary(32)),
        *((name, pa.list_(pa.string())) for name in FIELDS),
        ("status", pa.string()),
        ("prompt_tokens", pa.uint32()),
        ("output_tokens", pa.uint32()),
        ("answer", pa.string()),
    ]
)


@dataclass(frozen=True)
class Response:
    """What came back for the image whose bytes have this `sha256`: the four texts, or a fault and what was said."""

    uid: str
    sha256: str
    status: Status
    annotation: Annotation | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    answer: str = ""


class ResponseLog:
    """The responses in the folder `folder` of a store, by image. Raises `DataError` if a part is damaged."""

    def __init__(self, store: Store, folder: str) -> None:
        self._store, self.folder = store, folder
        self.responses: dict[str, Response] = {}
        self._new: list[Response] = []
        self._parts = 0
        self._written = time.monotonic()
        for key in store.list(f"{folder}/"):
            if key.endswith(".parquet"):
                self.responses.update((response.sha256, response) for response in _read(store, key))
                self._parts = int(key.rpartition("/")[2].removesuffix(".parquet")) + 1

    def add(self, response: Response) -> None:
        """Remember a response; after `PART_ROWS` of them, or `PART_S` seconds, those in memory are written down."""
        self.responses[response.sha256] = response
        self._new.append(response)
        if len(self._new) >= PART_ROWS or time.monotonic() - self._written > PART_S:
            self.flush()

    def flush(self) -> None:
        """Write down what is in memory. Raises `ConflictError` if another process writes here too."""
        if self._new:
            self._store.write(f"{self.folder}/{self._parts:06d}.parquet", _table(self._new))
            self._parts, self._new = self._parts + 1, []
        self._written = time.monotonic()


def _table(responses: Sequence[Response]) -> bytes:
    return to_parquet(
        pa.Table.from_pylist([_values(response) for response in responses], ANSWERS), {"rows": len(responses)}
    )


def _values(response: Response) -> dict[str, Any]:
    texts = {name: list(getattr(response.annotation, name)) if response.annotation else None for name in FIELDS}
    names = {"uid": bytes.fromhex(response.uid), "sha256": bytes.fromhex(response.sha256)}
    return {**vars(response), **names, **texts, "status": str(response.status)}


def _read(store: Store, key: str) -> list[Response]:
    table = read_table(store, key)
    if not table.schema.equals(ANSWERS):
        raise DataError(
            f"{key} has the columns {', '.join(table.column_names)}; delete it and run `hqclip distill` again"
        )
    return [_from_values(values) for values in table.to_pylist()]


def _from_values(values: dict[str, Any]) -> Response:
    texts = {name: values.pop(name) for name in FIELDS}
    annotation = None if texts["desc"] is None else Annotation(**{name: tuple(texts[name]) for name in FIELDS})
    names = {"uid": values.pop("uid").hex(), "sha256": values.pop("sha256").hex()}
    return Response(**{**values, **names, "status": Status(values["status"]), "annotation": annotation})
