"""An annotation folder in, what it says of its annotator out."""

from __future__ import annotations

from typing import Any, TypedDict

from hqclip.provenance import Provenance
from hqclip.store import Store
from hqclip.store.documents import read_json_if_there


class _Annotator(TypedDict, total=False):
    """Of what `annotate` wrote down, what others go by."""

    model: str
    engine: str
    prompt: str
    instruction: str
    model_digest: str
    provenance: Provenance


def read_annotator(store: Store, annotations: str) -> dict[str, Any]:
    """Its settings and what it was told; empty if the folder does not say. Raises `DataError`."""
    key = f"{annotations}/annotator.json"
    return read_json_if_there(store, key, "delete it and run `hqclip annotate` again", _Annotator) or {}
