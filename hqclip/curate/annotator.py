"""An annotation folder in, what it says of its annotator out."""

from __future__ import annotations

import json
from typing import Any

from hqclip.errors import DataError
from hqclip.store import Store


def read_annotator(store: Store, annotations: str) -> dict[str, Any]:
    """Its settings and what it was told; empty if the folder does not say. Raises `DataError`."""
    key = f"{annotations}/annotator.json"
    if not store.exists(key):
        return {}
    try:
        return dict(json.loads(store.read(key)))
    except (TypeError, ValueError) as error:
        raise DataError(f"{key} is no JSON object ({error}); delete it and run `hqclip annotate` again") from error
