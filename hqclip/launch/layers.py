"""Settings laid over others: what is one value is replaced, what is a list of named things is added to by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip.settings import as_items

ENV = ("env", "secret_env", "config_env")  # of one name there is one, wherever its value is
PAIRS = (*ENV, "labels", "annotations", "job_annotations", "node_selector", "devices")  # NAME=value
WHOLE = ("tolerations", "image_pull_secrets")  # the same if all of it is


def layered(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` laid over `lower`, both as flags have settings: lists, or text with commas."""
    kept = dict(lower)
    told = {_key("env", item) for kind in ENV for item in _items(upper.get(kind, ()))}
    for kind in ENV:
        if kind in kept:
            kept[kind] = [item for item in _items(kept[kind]) if _key("env", item) not in told]
    for name, value in upper.items():
        if name in kept and (name in PAIRS or name in WHOLE or name == "volumes"):
            above = _items(value)
            keys = {_key(name, item) for item in above}
            kept[name] = [*(item for item in _items(kept[name]) if _key(name, item) not in keys), *above]
        else:
            kept[name] = value
    return kept


def _items(value: Any) -> list[str]:
    """A list; what is none is left to whoever checks the setting."""
    try:
        return [str(item) for item in as_items(value)]
    except ValueError:
        return []


def _key(name: str, item: str) -> str:
    """What makes two items of a list the same thing."""
    if name == "volumes":
        return ":".join(item.split(":")[2:3]).rstrip("/")
    return item.partition("=")[0] if name in PAIRS else item
