"""A JSON document of a store in, its content out, or one sentence about what is wrong with it.

What work depends on raises `DataError`; what only tells how work went (curves, costs) is left out with a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar, cast

from hqclip import log
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import Manifest, Traced
from hqclip.store.protocol import Store
from hqclip.typed_json import BEYOND, WrongValueError, loads, read_as

M = TypeVar("M", bound=Manifest)


def read_json(store: Store, key: str, advice: str, shape: Any = None) -> dict[str, Any]:
    """The JSON object at `key`; it has what `shape` declares, a `TypedDict`.

    Raises `NotFoundError`, and `DataError` with `advice` (what to do) if it is damaged or no such object.
    """
    return parse_json(store.read(key), f"{store.uri}/{key}", advice, shape)


def read_json_if_there(store: Store, key: str, advice: str, shape: Any = None) -> dict[str, Any] | None:
    """As `read_json`, in one request; None if there is no such object."""
    data = _read_if_there(store, key)
    return None if data is None else parse_json(data, f"{store.uri}/{key}", advice, shape)


def read_if_there(store: Store, key: str, kind: type[M]) -> M | None:
    """The manifest at `key`, in one request; None if there is none. Raises `DataError` if it is damaged."""
    data = _read_if_there(store, key)
    return None if data is None else kind.from_json(data, f"{store.uri}/{key}")


def _read_if_there(store: Store, key: str) -> bytes | None:
    try:
        return store.read(key)
    except NotFoundError:
        return None


def write_manifest(store: Store, key: str, manifest: Traced) -> None:
    """Write a manifest that must not be there, unless it is the same, whoever made it. Raises `ConflictError`."""
    try:
        store.write(key, manifest.to_json())
    except ConflictError:
        if type(manifest).from_json(store.read(key), f"{store.uri}/{key}") != manifest:
            raise


def read_json_or_warn(store: Store, key: str, who: str, shape: Any = None) -> dict[str, Any] | None:
    """The JSON object at `key`, on which no work depends; None, and a warning by `who`, if it is damaged or gone."""
    try:
        return read_json(store, key, "it is left out", shape)
    except (DataError, NotFoundError) as error:
        log.warning(who, str(error))
        return None


def finite(value: Any) -> float | None:
    """A number as a document has it; None for anything else, and for one that is not finite."""
    is_number = type(value) is float and math.isfinite(value)
    return value if is_number or (type(value) is int and abs(value) < BEYOND) else None


def number_in(document: Mapping[str, Any], name: str) -> float:
    """The number that a document has under a name; 0 if it is none, not finite, or not there."""
    return finite(document.get(name)) or 0


def read_curve(store: Store, key: str, who: str) -> list[dict[str, float]]:
    """The lines of numbers at `key`, each with its `step`; damaged ones are left out, with one warning by `who`."""
    try:
        lines = store.read(key).splitlines()
    except NotFoundError as error:
        log.warning(who, str(error))
        return []
    points = [point for line in lines if (point := _point(line)) is not None]
    if len(points) < len(lines):
        damaged = len(lines) - len(points)
        log.warning(who, f"{store.uri}/{key}: {damaged} of {len(lines)} lines are damaged; they are left out")
    return points


def _point(line: bytes) -> dict[str, float] | None:
    try:
        point = loads(line)
        return {"step": int(point.pop("step")), **{name: float(value) for name, value in point.items()}}
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None


def parse_json(data: bytes, where: str, advice: str, shape: Any = None) -> dict[str, Any]:
    """The JSON object in `data`. Raises `DataError` as `read_json` does."""
    try:
        document = loads(data)
    except ValueError as error:
        raise DataError(f"{where} is damaged: no JSON ({error}); {advice}") from error
    if not isinstance(document, dict):
        raise DataError(f"{where} is damaged: no JSON object, but {type(document).__name__}; {advice}")
    try:
        return document if shape is None else cast(dict[str, Any], read_as(shape, document))
    except WrongValueError as error:
        raise DataError(f"{where} is damaged: {error}; {advice}") from error
