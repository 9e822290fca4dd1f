"""YAML's own forms in, settings as flags have them out: mappings as NAME=value, objects as JSON, quantities as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

OBJECTS = ("patches", "node_affinity")  # what Kubernetes says in objects, settings hold as JSON
QUANTITIES = ("cpus", "memory", "shm", "disk", "topology")


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a mapping."""
    return {name: plain_value(name, value) for name, value in settings.items()}


def plain_value(name: str, value: Any) -> Any:
    """One of them."""
    if name in OBJECTS and not isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, dict):
        return [f"{key}={_word(item)}" for key, item in value.items()]
    if name in QUANTITIES and isinstance(value, int | float):
        return str(value)
    return value


def _word(value: Any) -> str:
    """A value of YAML as it was written: `true`, not Python's `True`; nothing for nothing."""
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
