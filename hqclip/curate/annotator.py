"""An annotation folder in, what it says of its annotator out."""

from __future__ import annotations

from typing import Any

from hqclip.store import Store
from hqclip.store.documents import read_json_if_there


def read_annotator(store: Store, annotations: str) -> dict[str, Any]:
    """Its settings and what it was told; empty if the folder does not say. Raises `DataError`."""
    key = f"{annotations}/annotator.json"
    return read_json_if_there(store, key, "delete it and run `hqclip annotate` again") or {}
