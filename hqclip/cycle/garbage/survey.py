"""A store in, out what of it would go and why, and whether anything is at work there.

The store is listed once, kind after kind, those that refer before those they refer to. In memory is a line for each
run, data set and the like, and eight bytes for each shard in force; no list of objects.
"""

from __future__ import annotations

import bisect
import hashlib
import re
from array import array
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypedDict

from hqclip import log
from hqclip.cycle import lock
from hqclip.cycle.garbage.config import GcConfig
from hqclip.cycle.garbage.in_force import ADVICE, InForce, read_in_force
from hqclip.cycle.run_state import OVER
from hqclip.data.parquet import read_table
from hqclip.errors import DataError, NotFoundError
from hqclip.store import Listed, Store, check_not_empty
from hqclip.store.documents import read_json, read_json_if_there
from hqclip.task_records import TaskRecord

DAY_S = 86400.0
SIGN_S = 1800.0  # a sign of life is believed so long
RUN_S = DAY_S  # and the record of a task that has no end
PATTERNS = {
    "runs": re.compile(r"runs/(?P<name>[^/]+)/.+"),
    "datasets": re.compile(r"datasets/(?P<name>[0-9a-f]{16})/.+"),
    "scores": re.compile(r"scores/(?P<name>[0-9a-f]{16}-[0-9a-f]{16})/.+"),
    "curated": re.compile(r"curated/(?P<name>[0-9a-f]{16}-[0-9a-f]{16})/.+"),
    "annotations": re.compile(r"annotations/(?P<name>[0-9a-f]{16})/.+"),
    "pools": re.compile(r"pools/(?P<name>[0-9a-f]{16})\.json"),
    "evaluations": re.compile(
        r"evaluations/(?P<name>[0-9a-f]{16}/[0-9a-f]{16})\.(json|([0-9a-f]{8}\.)?outcomes\.parquet|confusion\.json)"
    ),
}  # what is called otherwise is not known, and stays
SHARD = re.compile(r"(?P<name>shards/[^/]+?)(\.index\.parquet|\.tar)")
PART = re.compile(r"annotations/(?P<annotator>[0-9a-f]{16})/parts/(?P<shard>[^/]+)/.+")
RUN_OF = re.compile(r"runs/([^/]+)/model")


@dataclass
class Unit:
    """Objects that go together: all below `prefix`, or those of them that `survey` says; `why` is for people."""

    kind: str
    what: str
    prefix: str
    why: str = ""
    objects: int = 0
    size: int = 0
    changed: float = 0.0  # the youngest object of it

    def count(self, one: Listed) -> None:
        """One more object."""
        self.objects, self.size, self.changed = self.objects + 1, self.size + one.size, max(self.changed, one.changed)


@dataclass
class Survey:
    """What goes, in the order in which it may be deleted, and what is at work (nothing may be deleted then)."""

    now: float
    limit: float  # what was written later stays
    units: list[Unit] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    shards: Shards = field(default_factory=lambda: Shards(()))

    def goes(self, unit: Unit, one: Listed) -> bool:
        """Whether an object below the prefix of a unit is part of it."""
        if unit.kind != "shards":
            return True
        match = SHARD.fullmatch(one.key)
        return match is not None and one.changed <= self.limit and match["name"] not in self.shards


class Shards:
    """The shards of all pools in force, 8 bytes each: two with the same hash both stay."""

    def __init__(self, names: Iterable[str]) -> None:
        self._hashes = array("Q", sorted(array("Q", map(_hash, names))))

    def __contains__(self, name: str) -> bool:
        place = bisect.bisect_left(self._hashes, _hash(name))
        return place < len(self._hashes) and self._hashes[place] == _hash(name)


def survey(store: Store, config: GcConfig, owner: str) -> Survey:
    """Judge everything that hqclip made; what it did not make, or what may still be looked at, is not even considered.

    Raises `DataError` if a document in force is damaged, and `NotFoundError` if there is no store.
    """
    check_not_empty(store)
    now = lock.store_time(store, owner)
    found = Survey(now, now - DAY_S * config.days)
    in_force = read_in_force(store, config, found.limit)
    _at_work(store, found)
    runs = _judge_runs(store, found, in_force)
    _judge(store, found, in_force, "datasets", "dataset.json")
    for kind in ("scores", "curated"):
        _judge(store, found, in_force, kind)
    _judge_annotations(store, found, in_force)
    pools = _judge(store, found, in_force, "pools")
    found.shards = Shards(name for pool in pools for name in _shards_of(store, pool))
    _judge_shards(store, found)
    _judge_evaluations(store, found, in_force, runs)
    found.units.sort(key=lambda unit: (ORDER.index(unit.kind), unit.what))
    return found


ORDER = (
    *("evaluations", "checkpoints", "runs", "datasets"),
    *("scores", "curated", "parts", "annotations", "pools", "shards"),
)  # who refers goes before what it refers to


def _judge(store: Store, found: Survey, in_force: InForce, kind: str, manifest: str = "") -> list[str]:
    """Judge all of a kind, and note what those that stay refer to, as `manifest` says; their names."""
    units: dict[str, Unit] = {}
    for one in store.scan(f"{kind}/"):
        if match := PATTERNS[kind].fullmatch(one.key):
            name = match["name"]
            prefix = one.key if kind == "pools" else f"{kind}/{name}/"
            units.setdefault(name, Unit(kind, f"{kind}/{name}", prefix)).count(one)
    return _split(store, found, in_force, units, manifest)


def _split(store: Store, found: Survey, in_force: InForce, units: dict[str, Unit], manifest: str) -> list[str]:
    kept = [name for name, unit in units.items() if in_force.holds(unit.kind, name) or unit.changed > found.limit]
    for name in kept:
        if manifest:
            _add_references(store, in_force, f"{units[name].what}/{manifest}")
    for name in units.keys() - set(kept):
        units[name].why = "nothing in force names it"
        found.units.append(units[name])
    return kept


def _add_references(store: Store, in_force: InForce, key: str) -> None:
    """What a data set or run needs; its `parent` is only where it comes from."""
    said = read_json_if_there(store, key, ADVICE)
    if said is None:
        return
    document = {name: value for name, value in said.items() if name != "parent"}
    in_force.add(document)
    annotator = document.get("annotator", "")
    in_force.names.add(("curated", f"{annotator}-{document.get('policy', '')}"))
    in_force.names.add(("scores", f"{document.get('score_model', '')}-{annotator}"))
    if key.startswith("datasets/"):  # of two that made the same content, one wrote the manifest and one the table
        with suppress(NotFoundError, DataError):  # who reads the data set is told
            in_force.add(read_table(store, f"{key.rpartition('/')[0]}/shards.parquet").to_pylist())


def _judge_runs(store: Store, found: Survey, in_force: InForce) -> set[str]:
    """Runs, and the checkpoints of those that are done and stay; names of the runs that stay."""
    runs: dict[str, Unit] = {}
    checkpoints: dict[str, Unit] = {}
    done, known = set[str](), set[str]()
    for one in store.scan("runs/"):
        if (match := PATTERNS["runs"].fullmatch(one.key)) is None:
            continue
        name = match["name"]
        runs.setdefault(name, Unit("runs", f"runs/{name}", f"runs/{name}/")).count(one)
        rest = one.key.removeprefix(f"runs/{name}/")
        if rest.startswith("checkpoints/"):
            prefix = f"runs/{name}/checkpoints/"
            checkpoints.setdefault(name, Unit("checkpoints", prefix.rstrip("/"), prefix)).count(one)
        known |= {name} if rest == "config.json" else set()
        done |= {name} if rest == "result.json" else set()
    found.alive += [
        f"{runs[name].what} is in the making" for name in known - done if found.now - runs[name].changed < SIGN_S
    ]
    kept = _split(store, found, in_force, {name: unit for name, unit in runs.items() if name in known}, "config.json")
    for name in done.intersection(kept, checkpoints):
        if checkpoints[name].changed <= found.limit and not name.startswith(in_force.runs):
            checkpoints[name].why = "its run is done"
            found.units.append(checkpoints[name])
    return {*kept, *(runs.keys() - known)}


def _judge_annotations(store: Store, found: Survey, in_force: InForce) -> None:
    """Annotations, and rows of shards in work that were left behind by who finished the shard."""
    units: dict[str, Unit] = {}
    parts: dict[tuple[str, str], Unit] = {}
    for one in store.scan("annotations/"):
        if (match := PATTERNS["annotations"].fullmatch(one.key)) is None:
            continue
        name = match["name"]
        units.setdefault(name, Unit("annotations", f"annotations/{name}", f"annotations/{name}/")).count(one)
        if part := PART.fullmatch(one.key):
            prefix = f"annotations/{name}/parts/{part['shard']}/"
            parts.setdefault((name, part["shard"]), Unit("parts", prefix.rstrip("/"), prefix)).count(one)
        if one.key.startswith(f"annotations/{name}/claims/") and found.now - one.changed < SIGN_S:
            found.alive.append(f"annotations/{name} is in the making")
    kept = set(_split(store, found, in_force, units, ""))
    for (name, shard), unit in parts.items():
        if name in kept and unit.changed <= found.limit and store.exists(f"annotations/{name}/{shard}.parquet"):
            unit.why = "its shard is done"
            found.units.append(unit)


def _judge_shards(store: Store, found: Survey) -> None:
    unit = Unit("shards", "shards of no pool that stays", "shards/", why="no pool that stays has them")
    for one in store.scan("shards/"):
        if found.goes(unit, one):
            unit.count(one)
    if unit.objects:
        found.units.append(unit)


def _judge_evaluations(store: Store, found: Survey, in_force: InForce, runs: set[str]) -> None:
    """Evaluations of models of this store that are gone or go; those of other models are nowhere else."""
    units: dict[str, Unit] = defaultdict(lambda: Unit("evaluations", "", ""))
    for one in store.scan("evaluations/"):
        if match := PATTERNS["evaluations"].fullmatch(one.key):
            unit = units[match["name"]]
            unit.what, unit.prefix = f"evaluations/{match['name']}", f"evaluations/{match['name']}."
            unit.count(one)
    for name, unit in units.items():
        if unit.changed > found.limit or in_force.holds("evaluations", name):
            continue
        model = _judged_model(store, f"{unit.what}.json")
        if model is None:
            unit.why = "what is left of an evaluation"
        elif (run := RUN_OF.fullmatch(model)) and run[1] not in runs:
            unit.why = f"no record names it, and {model} is gone or goes"
        if unit.why:
            found.units.append(unit)


def _judged_model(store: Store, key: str) -> str | None:
    """Which model it is of; None if the evaluation itself is gone."""
    said = read_json_if_there(store, key, ADVICE)
    return None if said is None else str(said.get("model", ""))


def _at_work(store: Store, found: Survey) -> None:
    """Tasks of pipelines that have not ended, and jobs whose launcher is there."""
    for one in store.scan("pipelines/"):
        if found.now - one.changed < RUN_S and (run := _unended(store, one.key)) and lock.state(run) != OVER:
            found.alive.append(f"run {run} is at work ({one.key})")
    for one in store.scan("launch/"):
        if one.key.endswith("/lease.json") and found.now - one.changed < SIGN_S:
            found.alive.append(f"a job is at work ({one.key.removesuffix('/lease.json')})")


def _unended(store: Store, key: str) -> str:
    """The run of a task that has not ended; "" if it has, or says nothing."""
    try:
        record = TaskRecord.from_json(store.read(key), key)
    except NotFoundError:
        return ""
    except DataError as error:
        log.warning("gc", f"{error}; it is left out")
        return ""
    return record.run if record.ended is None else ""


class _Entry(TypedDict):
    key: str
    index: str


class _Pool(TypedDict):
    """Of a pool, what is asked here: one of a newer version may have more."""

    shards: list[_Entry]


def _shards_of(store: Store, pool: str) -> Iterable[str]:
    """Names of its shards, with their folder and without endings."""
    key = f"pools/{pool}.json"
    for entry in read_json(store, key, ADVICE, _Pool)["shards"]:
        for text in (entry["key"], entry["index"]):
            if match := SHARD.fullmatch(text):
                yield match["name"]


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest())
