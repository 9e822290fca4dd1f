"""YAML's own forms in, settings as flags have them out: mappings as NAME=value, objects as JSON, quantities as text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from hqclip.errors import ConfigError

OBJECTS = ("patches", "node_affinity")  # what Kubernetes says in objects, settings hold as JSON
QUANTITIES = ("cpus", "memory", "shm", "disk", "topology")
_SINGLE = (str, int, float, date, type(None))  # what Python writes as a person did, roughly


def plain(settings: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """All settings of a mapping. Raises `ConfigError` with every problem."""
    found, problems = {}, []
    for name, value in settings.items():
        try:
            found[name] = plain_value(name, value)
        except ConfigError as error:
            problems.append(f"{where}{error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def plain_value(name: str, value: Any) -> Any:
    """One of them. Raises `ConfigError`."""
    if name in OBJECTS and not isinstance(value, str):
        try:
            return json.dumps(value)
        except TypeError as error:  # a date
            raise ConfigError(f"{name}: {error}; put what it is in quotes") from error
    for key in nested_keys(name, value):
        raise ConfigError(f"{name}.{key} is {value[key]!r}; give text")
    if isinstance(value, dict):
        return [f"{key}={_word(item)}" for key, item in value.items()]
    if name in QUANTITIES and isinstance(value, int | float):
        return str(value)
    return value


def nested_keys(name: str, value: Any) -> list[Any]:
    """Keys of a mapping of NAME=value whose value is no single one: it would become a word of Python."""
    if name in OBJECTS or not isinstance(value, dict):
        return []
    return [key for key, one in value.items() if not isinstance(one, _SINGLE) or isinstance(one, datetime)]


def _word(value: Any) -> str:
    """A value of YAML as it was written: `true`, not Python's `True`; nothing for nothing."""
    return "" if value is None else json.dumps(value) if isinstance(value, bool) else str(value)
