"""A cycle in, what the tasks of its stages said out: their results, kept when they finished first."""

from __future__ import annotations

import json
from typing import Any

from hqclip.store import Store


def read_notes(store: Store, cycle: int) -> dict[str, dict[str, Any]]:
    """Results by task: the name of the stage, and of the trial where there are several, as in `train-raw`."""
    prefix = notes_prefix(cycle)
    keys = store.list(prefix)
    return {key.removeprefix(prefix).removesuffix(".json"): dict(json.loads(store.read(key))) for key in keys}


def notes_prefix(cycle: int) -> str:
    """What their keys begin with; the name of the task follows."""
    return f"cycles/{cycle:06d}.stages/"
