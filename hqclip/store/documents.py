"""A JSON document of a store in, its content out, or one sentence about what is wrong with it."""

from __future__ import annotations

import json
from typing import Any

from hqclip import log
from hqclip.errors import DataError
from hqclip.store.protocol import Store


def read_json(store: Store, key: str, advice: str) -> dict[str, Any]:
    """The JSON object at `key`.

    Raises `NotFoundError`, and `DataError` with `advice` (what to do) if it is damaged or no object.
    """
    return parse_json(store.read(key), f"{store.uri}/{key}", advice)


def read_json_or_warn(store: Store, key: str, who: str) -> dict[str, Any] | None:
    """The JSON object at `key`, of which no work depends; None, and a warning by `who`, if it is damaged.

    Raises `NotFoundError`.
    """
    try:
        return read_json(store, key, "it is left out")
    except DataError as error:
        log.warning(who, str(error))
        return None


def parse_json(data: bytes, where: str, advice: str) -> dict[str, Any]:
    """The JSON object in `data`. Raises `DataError` as `read_json` does."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is damaged: no JSON ({error}); {advice}") from error
    if not isinstance(document, dict):
        raise DataError(f"{where} is damaged: no JSON object, but {type(document).__name__}; {advice}")
    return document
