"""Where node 0 of a gang is reached, in the store: for schedulers that give their pods no names."""

from __future__ import annotations

from hqclip.errors import NotFoundError
from hqclip.launch.job import folder
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.typed_json import loads, read_as


def write_address(store: Store, key: str, address: str) -> None:
    """Node 0 of the job `key` is here now; that of an attempt before is no more."""
    store.write(_record(key), canonical_json({"address": address}), create_only=False)


def read_address(store: Store, key: str) -> str:
    """Where it was when it began last; empty if it never did. Raises `ValueError` for a damaged record."""
    try:
        return read_as(dict[str, str], loads(store.read(_record(key)))).get("address", "")
    except NotFoundError:
        return ""


def _record(key: str) -> str:
    return f"{folder(key)}/node-0.json"
