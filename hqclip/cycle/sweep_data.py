"""What a person says of the data of a sweep in, the data set that its trials are trained on out.

The same sweep compares on the same data, also when a newer cycle is done; that there is newer data is only said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hqclip.cycle.keys import newest_cycle, record_key
from hqclip.errors import NotFoundError
from hqclip.records import CycleRecord, DatasetVersion
from hqclip.store import Store
from hqclip.store.documents import read_if_there


@dataclass(frozen=True)
class SweepData:
    """The manifest of a data set, how many samples can be trained on, and what there is to say about the choice."""

    key: str
    usable_rows: int
    about: str


def choose_data(store: Store, wanted: str, planned: Mapping[str, str]) -> SweepData:
    """The data set `wanted`; if that is empty the one with which the same sweep was planned, or the newest.

    `planned` are sweeps that try the same, by their data set. Raises `NotFoundError`.
    """
    cycles = _cycles(store)
    newest = max(cycles, key=lambda key: cycles[key], default="")
    before = max(planned, key=lambda key: (cycles.get(key, 0), key), default="")
    key = wanted or before or newest
    if not key:
        raise NotFoundError(f"{store.uri} has no finished cycle; give the data set, as printed by `hqclip curate`")
    version = read_if_there(store, key, DatasetVersion)
    if version is None:
        raise NotFoundError(f"{store.uri} has no data set {key}; give one as printed by `hqclip curate`")
    said = [f"The data: {_name(key, version.name, cycles)}; --dataset {key} (curate_dataset in a pipeline) repeats it."]
    if not wanted and newest not in ("", key):
        said.append(
            f"The same sweep had it before; cycle {cycles[newest]} has newer data: give {newest} to compare on that."
        )
    said += [
        f"The same trials on other data, {other}, are sweep {digest}."
        for other, digest in sorted(planned.items())
        if other != key
    ]
    return SweepData(key, version.usable_rows, " ".join(said))


def _name(key: str, name: str, cycles: Mapping[str, int]) -> str:
    return f"{name} {key.split('/')[-2]}" + (f" of cycle {cycles[key]}" if key in cycles else "")


def _cycles(store: Store) -> dict[str, int]:
    """The newest finished cycle of each data set."""
    found: dict[str, int] = {}
    for cycle in range(1, newest_cycle(store) + 1):
        if record := read_if_there(store, record_key(cycle), CycleRecord):
            found[record.dataset] = cycle
    return found
