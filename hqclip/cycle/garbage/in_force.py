"""A store in, what its champions, open work and young records name out: the roots of what stays."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypedDict

from hqclip.cycle.garbage.config import GcConfig
from hqclip.cycle.keys import notes_prefix, plan_key, record_key, runs_of
from hqclip.errors import ConfigError
from hqclip.store import Store
from hqclip.store.documents import read_json, read_json_if_there

ADVICE = "mend it or bring it back: without it nobody knows what it refers to, and nothing was deleted"
NAMED = re.compile(r"(?<![\w.-])(pools|annotations|scores|curated|datasets|runs|evaluations)/([^/\s]+)(?:/([^/\s]+))?")
DIGEST = re.compile(r"[0-9a-f]{16}")
MADE_BY = {"download": "pools", "annotate": "annotations", "score": "scores", "curate": "curated"}
CYCLE = re.compile(r"cycles/(\d{6,})\.(?:plan\.json|json|html|stages/.+)")
SWEEP = re.compile(r"sweeps/(\w+)\.(?:plan\.json|json|html|stages/.+)")


@dataclass
class InForce:
    """Names by kind (`runs`, `000003-hqclip`), bare digests, what names of runs begin with, and judged models.

    `judged` are the evaluations that the record of any cycle or sweep names: such records stay for ever. `pending` are
    the kinds of which the newest cycle is still making one, nobody knows which.
    """

    names: set[tuple[str, str]] = field(default_factory=set)
    digests: set[str] = field(default_factory=set)
    runs: tuple[str, ...] = ()
    judged: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)

    def add(self, document: Any) -> None:
        """All that a document names, whatever its fields are called: keys anywhere in its text, and digests."""
        for text in _texts(document):
            for kind, name, rest in NAMED.findall(text):
                self.names.add((kind, f"{name}/{rest.partition('.')[0]}" if kind == "evaluations" else _bare(name)))
            if DIGEST.fullmatch(text):
                self.digests.add(text)

    def holds(self, kind: str, name: str) -> bool:
        """Whether something in force names it."""
        if kind in self.pending or (kind == "evaluations" and name in self.judged):
            return True
        return (kind, name) in self.names or name in self.digests or (kind == "runs" and name.startswith(self.runs))


class _OfCycle(TypedDict, total=False):
    """Of the champion, what is asked here."""

    cycle: int


def read_in_force(store: Store, config: GcConfig, limit: float) -> InForce:
    """What nobody must miss; `limit`: what was written after it, in seconds by the clock of the store, is young.

    Raises `DataError` if a document that may name something is damaged, `ConfigError` for a `keep` that names nothing.
    """
    found = InForce()
    for name in config.keep:
        if not NAMED.fullmatch(name):
            raise ConfigError(f"--keep {name}: give keys of the store: runs/..., datasets/..., pools/...")
        found.add(name)
    if store.exists("champion.json"):
        found.add(read_json(store, "champion.json", ADVICE))
    for key in store.list("teachings/"):
        if key.endswith("/teacher.json"):
            found.add(read_json(store, key, ADVICE))
    _add_cycles(store, config, limit, found)
    _add_sweeps(store, limit, found)
    return found


def _add_cycles(store: Store, config: GcConfig, limit: float, found: InForce) -> None:
    keys, young = _grouped(store, "cycles/", CYCLE, limit)
    numbers = sorted((int(number) for number in keys), reverse=True)
    records = {n: read_json(store, record_key(n), ADVICE) for n in numbers if record_key(n) in keys[f"{n:06d}"]}
    plans = {n: read_json(store, plan_key(n), ADVICE) for n in numbers if plan_key(n) in keys[f"{n:06d}"]}
    data_only = [n for n in plans if not plans[n].get("points") and f"{notes_prefix(n)}curate.json" in keys[f"{n:06d}"]]
    open_ones = [n for n in numbers if n not in records and n not in data_only]
    champions = [n for n in records if records[n].get("verdict") == "promoted"][: config.champions]
    if store.exists("champion.json"):
        champions.append(read_json(store, "champion.json", ADVICE, _OfCycle).get("cycle", 0))
    kept = {*open_ones, *champions, *list(records)[:1], *data_only[: config.champions], *(int(n) for n in young)}
    for n in kept & set(numbers):
        for key in keys[f"{n:06d}"]:
            if key.endswith(".json"):
                found.add(read_json_if_there(store, key, ADVICE))  # a failure's goes when its trial succeeds
    found.runs += tuple(f"{n:06d}-" for n in open_ones)
    if numbers and numbers[0] in open_ones:
        noted = keys[f"{numbers[0]:06d}"]
        found.pending |= {
            kind for stage, kind in MADE_BY.items() if f"{notes_prefix(numbers[0])}{stage}.json" not in noted
        }
    for record in records.values():
        found.judged |= set(_evaluations(record))


def _add_sweeps(store: Store, limit: float, found: InForce) -> None:
    keys, young = _grouped(store, "sweeps/", SWEEP, limit)
    for digest, group in keys.items():
        key = f"sweeps/{digest}.json"
        record = read_json(store, key, ADVICE) if key in group else None
        is_open = record is None or bool(record.get("failed"))
        if is_open or digest in young:
            for each in group:
                if each.endswith(".json"):
                    found.add(read_json_if_there(store, each, ADVICE))
        if is_open:
            found.runs += (runs_of(digest),)
        found.judged |= set(_evaluations(record))


def _grouped(
    store: Store, prefix: str, pattern: re.Pattern[str], limit: float
) -> tuple[dict[str, list[str]], set[str]]:
    """Keys of each cycle or sweep, and those of which something is young."""
    keys, young = defaultdict[str, list[str]](list), set[str]()
    for one in store.scan(prefix):
        if match := pattern.fullmatch(one.key):
            keys[match[1]].append(one.key)
            if one.changed > limit:
                young.add(match[1])
    return keys, young


def _evaluations(document: Any) -> Iterator[str]:
    for text in _texts(document):
        for kind, name, rest in NAMED.findall(text):
            if kind == "evaluations":
                yield f"{name}/{rest.partition('.')[0]}"


def _texts(document: Any) -> Iterator[str]:
    if isinstance(document, str):
        yield document
    elif isinstance(document, dict):
        for value in document.values():
            yield from _texts(value)
    elif isinstance(document, list | tuple):
        for value in document:
            yield from _texts(value)


def _bare(name: str) -> str:
    return name.removesuffix(".json")
