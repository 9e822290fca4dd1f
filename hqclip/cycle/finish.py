"""How a pipeline run ended, in a sentence, whatever happened before."""

from __future__ import annotations

from hqclip.cycle.keys import record_key
from hqclip.cycle.lock import owner_of, release
from hqclip.errors import HQClipError
from hqclip.records import Champion, CycleRecord
from hqclip.store import open_store


def finish(store_uri: str, owner: str = "") -> str:
    """What a person wants to know first; the lock of `owner` is free again. A store without a champion is no fault.

    How the run ended is asked of nobody: what Kubeflow tells its exit task is RUNNING for good and for failed runs.
    """
    try:
        if owner_of(owner):
            release(open_store(store_uri), owner_of(owner))
        return _said(store_uri)
    except HQClipError as error:
        return f"the run is over; the store says no more: {error}"


def _said(store_uri: str) -> str:
    store = open_store(store_uri)
    if not store.exists("champion.json"):
        return "the run is over; no model is in force yet"
    champion = Champion.from_json(store.read("champion.json"), "champion.json")
    record = CycleRecord.from_json(store.read(record_key(champion.cycle)), record_key(champion.cycle))
    return f"the run is over; {champion.model} of cycle {champion.cycle} is in force ({record.reason})"
