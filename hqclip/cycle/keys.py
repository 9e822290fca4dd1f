"""A cycle or sweep in, where its plan, its record and the notes of its tasks are out; and which cycles a store has."""

from __future__ import annotations

import re

from hqclip.store import Store


def plan_key(cycle: int) -> str:
    """Where the plan of a cycle is."""
    return f"cycles/{cycle:06d}.plan.json"


def record_key(cycle: int) -> str:
    """Where the record of a finished cycle is."""
    return f"cycles/{cycle:06d}.json"


def approval_key(cycle: int) -> str:
    """Where it is said what a person decided of its winner."""
    return f"cycles/{cycle:06d}.approval.json"


def notes_prefix(cycle: int) -> str:
    """What the keys of its notes begin with; the name of the task follows."""
    return f"cycles/{cycle:06d}.stages/"


def runs_of(digest: str) -> str:
    """What the runs of a sweep begin with; the name of the trial follows."""
    return f"sweep-{digest[:8]}-"


def notes_of(digest: str) -> str:
    """What the keys of the notes of its tasks begin with."""
    return f"sweeps/{digest}.stages/"


def runs_prefix(notes: str) -> str:
    """What the keys of the pipeline runs begin with that worked on a cycle or sweep whose notes are below `notes`."""
    return f"{notes.removesuffix('stages/')}runs/"


def newest_cycle(store: Store) -> int:
    """The highest number that was planned; 0 in a new store."""
    return _highest(store, r"cycles/(\d+)\.plan\.json")


def newest_closed(store: Store) -> int:
    """The highest number that has a record; 0 if there is none."""
    return _highest(store, r"cycles/(\d+)\.json")


def half_approved(store: Store) -> list[int]:
    """Cycles whose winner was decided on, the newest first, but what follows of it was not done to its end."""
    keys = set(store.list("cycles/"))
    decided = (re.fullmatch(r"cycles/(\d+)\.approval\.json", key) for key in keys)
    cycles = sorted((int(match[1]) for match in decided if match), reverse=True)
    return [cycle for cycle in cycles if f"{notes_prefix(cycle)}approve.json" not in keys]


def _highest(store: Store, pattern: str) -> int:
    found = (re.fullmatch(pattern, key) for key in store.list("cycles/"))
    return max((int(match[1]) for match in found if match), default=0)
