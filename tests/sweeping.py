"""What the tests of sweeps share: a data set version that is nothing but its manifest."""

from __future__ import annotations

from hqclip.records import DatasetVersion
from hqclip.store import Store


def write_version(store: Store, digest: str = "abc", usable_rows: int = 100_000) -> str:
    """The key of a manifest of so many samples."""
    version = DatasetVersion(
        digest=digest,
        name="shapes",
        parent="",
        pool="p",
        annotator="a",
        policy="p",
        score_model="",
        rows=usable_rows,
        usable_rows=usable_rows,
        counts={},
        flags={},
        tag_vocabulary=0,
        code_version="0",
    )
    store.write(f"datasets/{digest}/dataset.json", version.to_json())
    return f"datasets/{digest}/dataset.json"
