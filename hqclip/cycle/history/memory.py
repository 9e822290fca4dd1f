"""What was read of cycles and runs before, `cycles/history.json` beside the page: each night reads what is new.

A cycle or run of which the very same objects are there as then, by size and time, is taken from it, unless something
was wrong with them. So a night costs a few listings and some thirty reads, and what `hqclip gc` deletes is still told.
It can be deleted: then everything is read anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypeVar

from hqclip import __version__, log
from hqclip.cycle.history.documents import MALFORMED
from hqclip.records import digest_of
from hqclip.report.history import PastCycle, PastRun
from hqclip.store import Listed, Store
from hqclip.store.documents import read_json_or_warn
from hqclip.typed_json import read_as

KEY = "cycles/history.json"
FORMAT = 1
Group = Sequence[Listed]
Past = TypeVar("Past", PastCycle, PastRun)
Told = tuple[str, Past]  # the digest of what was there, and what it said


class Memory:
    """What the last page was made of, if this version of hqclip made it. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        said = (read_json_or_warn(store, KEY, "history") or {}) if store.exists(KEY) else {}
        is_ours = said.get("code_version") == __version__ and said.get("format") == FORMAT
        self._cycles = _by_name(said, "cycles", "cycle") if is_ours else {}
        self._runs = _by_name(said, "runs", "run") if is_ours else {}

    def cycle(self, number: int, group: Group, read: Callable[[Sequence[str]], PastCycle]) -> Told[PastCycle]:
        """A cycle whose objects are this group, remembered or read from their keys."""
        return _again_or(self._cycles.get(number), group, PastCycle, read)

    def run(self, run: str, group: Group, read: Callable[[Sequence[str]], PastRun]) -> Told[PastRun]:
        """The same of a run of a pipeline."""
        return _again_or(self._runs.get(run), group, PastRun, read)

    def to_keep(
        self, cycles: Sequence[Told[PastCycle]], runs: Sequence[Told[PastRun]], listed: Container[int | str]
    ) -> dict[str, Any]:
        """What to remember, as JSON has it: these, and what is known of others that are `listed` in the store."""
        return {
            "kind": "history",
            "format": FORMAT,
            "code_version": __version__,
            "cycles": _rows(cycles, "cycle", self._cycles, listed),
            "runs": _rows(runs, "run", self._runs, listed),
        }


def _rows(
    told: Sequence[Told[Past]], name: str, known: Mapping[Any, Mapping[str, Any]], listed: Container[int | str]
) -> list[Mapping[str, Any]]:
    read = {getattr(past, name) for _, past in told}
    rows = [row for one, row in known.items() if one in listed and one not in read]
    for seen, past in told:
        if not past.problems:
            rows.append({"seen": seen, **dataclasses.asdict(past)})
    return rows


def _by_name(said: Mapping[str, Any], rows: str, name: str) -> dict[Any, Mapping[str, Any]]:
    try:
        return {row[name]: row for row in said[rows]}
    except MALFORMED as error:
        log.warning("history", f"{KEY} is damaged ({error!r}); everything is read anew")
        return {}


def _again_or(
    known: Mapping[str, Any] | None,
    group: Group,
    kind: type[Past],
    read: Callable[[Sequence[str]], Past],
) -> Told[Past]:
    seen = digest_of([[one.key, one.size, one.changed] for one in group])
    try:
        if known and known["seen"] == seen:
            return seen, read_as(kind, {each.name: known[each.name] for each in dataclasses.fields(kind)})
    except MALFORMED as error:
        log.warning("history", f"{KEY} is damaged ({error!r}); what it should know is read anew")
    return seen, read([one.key for one in group])
