"""`suite.json` in, what it names out; a set added to it. Two forms are read, and told apart by their format.

Format 1 is one shard of images for all benchmarks. In format 2 every set has image shards of its own, and says what it
was made of. Whatever a set consists of is named by its content and written before `suite.json`, which is exchanged by
compare-and-swap: a process that is killed leaves a suite as whole as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hqclip.errors import ConflictError, DataError
from hqclip.records import Manifest, digest_of
from hqclip.store import ObjectInfo, Store
from hqclip.typed_json import loads

NAME = "suite.json"
TRIES = 10  # to exchange a manifest that others add to as well


@dataclass(frozen=True)
class ShardFile:
    """A shard of images as it was written: `crc32c` is unsigned."""

    key: str
    size: int
    crc32c: int


@dataclass(frozen=True)
class Origin:
    """What a set was made of.

    `source` is where it lay, as given; `sha256` is of the names and contents of all files that were read; `licence` is
    a note for people; `limit` is how many items were asked for at most, 0 for all; `left_out` counts what could not be
    used, by reason.
    """

    layout: str
    source: str
    sha256: str
    licence: str = ""
    limit: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SetEntry:
    """One set: its benchmark as a JSON file, its shards of images, and what it was made of, if that is known."""

    name: str
    digest: str
    benchmark: str
    shards: tuple[ShardFile, ...]
    origin: Origin | None = None


@dataclass(frozen=True, kw_only=True)
class OneShardManifest(Manifest):
    """Format 1: `images` is a shard, `benchmarks` are JSON files, both beside it."""

    KIND = "suite"
    NUMBER: ClassVar[int] = 1
    name: str
    digest: str
    images: str
    benchmarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SuiteManifest(Manifest):
    """Format 2: sets sorted by name, so that the order in which they were added changes nothing."""

    KIND = "suite"
    NUMBER: ClassVar[int] = 2
    name: str
    digest: str
    sets: tuple[SetEntry, ...]


def parse_manifest(data: bytes, where: str) -> OneShardManifest | SuiteManifest:
    """Raises `DataError` for what is no `suite.json`, and for wrong fields of one."""
    if _format_of(data) == OneShardManifest.NUMBER:
        return OneShardManifest.from_json(data, where)
    manifest = SuiteManifest.from_json(data, where)
    names = [entry.name for entry in manifest.sets]
    if not names or len(set(names)) < len(names):
        raise DataError(f"{where}: sets: {'one name comes twice' if names else 'none'}; give at least one, each once")
    return manifest


def digest_of_set(shards: Sequence[ShardFile | ObjectInfo], document: Mapping[str, Any]) -> str:
    """What identifies a set: the images and what is asked about them."""
    return digest_of([[[shard.size, shard.crc32c] for shard in shards], dict(document)])


def digest_of_sets(digests: Mapping[str, str]) -> str:
    """What identifies a suite, from the digests of its sets by name."""
    return digest_of(sorted(digests.items()))


def add_set(store: Store, name: str, entry: SetEntry, before: Sequence[SetEntry] | None = None) -> bool:
    """Add a set to the suite in `store`, or make the suite `name` of it; whether anything had to be written.

    `before` are the sets of a suite of format 1 that becomes one of format 2. Raises `ConflictError` if another set has
    the name: what was judged on it could not be compared any more.
    """
    for _ in range(TRIES):
        there = store.stat(NAME)
        sets = {one.name: one for one in _sets_in(store) or before or ()} if there else {}
        known = sets.get(entry.name)
        if known and known.digest == entry.digest:
            return False
        if known:
            raise ConflictError(
                f"{store.uri}/{NAME}: its set {entry.name!r} has other content ({known.digest}, now {entry.digest}); "
                "give this one another --name, or make another suite"
            )
        sets[entry.name] = entry
        ordered = tuple(sets[each] for each in sorted(sets))
        digest = digest_of_sets({one.name: one.digest for one in ordered})
        title = parse_manifest(store.read(NAME), f"{store.uri}/{NAME}").name if there else name
        try:
            store.swap(NAME, SuiteManifest(name=title, digest=digest, sets=ordered).to_json(), expected=there)
            return True
        except ConflictError:
            continue  # somebody else has added a set meanwhile
    raise ConflictError(f"{store.uri}/{NAME} is being changed all the time; try again when the other imports are done")


def _sets_in(store: Store) -> tuple[SetEntry, ...] | None:
    manifest = parse_manifest(store.read(NAME), f"{store.uri}/{NAME}")
    return manifest.sets if isinstance(manifest, SuiteManifest) else None


def _format_of(data: bytes) -> object:
    """1 also where it cannot be told: whoever reads that form says what is wrong."""
    try:
        document = loads(data)
    except ValueError:
        return 1
    if not isinstance(document, dict):
        return 1
    number = document.get("format")
    return 1 if number == 1 and "sets" not in document else number
