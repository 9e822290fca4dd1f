"""Images that killed engines: no engine is shown them again until somebody deletes their record."""

from __future__ import annotations

import json
from collections.abc import Mapping

from hqclip.store import Store

FOLDER = "quarantine"


def quarantined(store: Store) -> frozenset[str]:
    """The images, by the SHA-256 of their bytes."""
    return frozenset(key.rpartition("/")[2].removesuffix(".json") for key in store.list(f"{FOLDER}/"))


def quarantine(store: Store, sha256: str, about: Mapping[str, str]) -> None:
    """Record an image, with what people want to know about it."""
    store.write(f"{FOLDER}/{sha256}.json", json.dumps(about, indent=1).encode(), create_only=False)
