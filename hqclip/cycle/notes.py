"""A cycle in, what the tasks of its stages said out: their results, kept when they finished first."""

from __future__ import annotations

from typing import Any

from hqclip.cycle.keys import notes_prefix
from hqclip.store import Store
from hqclip.store.documents import read_json_or_warn


def read_notes(store: Store, cycle: int) -> dict[str, dict[str, Any]]:
    """Results by task: the name of the stage, and of the trial where there are several, as in `train-raw`.

    A damaged one is left out with a warning: no stage's work depends on it.
    """
    prefix = notes_prefix(cycle)
    said = {key: read_json_or_warn(store, key, "cycle") for key in store.list(prefix)}
    return {
        key.removeprefix(prefix).removesuffix(".json"): result for key, result in said.items() if result is not None
    }
