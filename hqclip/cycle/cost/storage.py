"""A store and a price in, what it takes by kind and what that costs a month out. The whole store is listed for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hqclip.store import Store

GB = 1e9  # as it is billed


def storage(store: Store, usd_per_gb_month: float) -> list[dict[str, Any]]:
    """A row a kind, the largest first, and one for all: objects, bytes, dollars a month.

    A kind is the first part of a key (`shards`, `annotations`, ...); checkpoints are told apart from their `runs`.
    """
    objects, sizes = Counter[str](), Counter[str]()
    for one in store.scan():
        kind = _kind(one.key)
        objects[kind] += 1
        sizes[kind] += one.size
    rows = [_row(kind, objects[kind], size, usd_per_gb_month) for kind, size in sizes.most_common()]
    return [*rows, _row("all", objects.total(), sizes.total(), usd_per_gb_month)]


def _kind(key: str) -> str:
    kind, slash, rest = key.partition("/")
    if kind == "runs" and rest.partition("/")[2].startswith("checkpoints/"):
        return "checkpoints"
    return kind if slash else "pointers"


def _row(kind: str, objects: int, size: int, usd_per_gb_month: float) -> dict[str, Any]:
    return {"kind": kind, "objects": objects, "bytes": size, "usd_month": round(size / GB * usd_per_gb_month, 2)}
