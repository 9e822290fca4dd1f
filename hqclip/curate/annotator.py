"""An annotation folder in, what it says of its annotator out."""

from __future__ import annotations

from typing import Any

from hqclip.store import Store
from hqclip.store.documents import read_json


def read_annotator(store: Store, annotations: str) -> dict[str, Any]:
    """Its settings and what it was told; empty if the folder does not say. Raises `DataError`."""
    key = f"{annotations}/annotator.json"
    if not store.exists(key):
        return {}
    return read_json(store, key, "delete it and run `hqclip annotate` again")
