"""Which shards a pattern names: folders, brace ranges and globs, in local folders and buckets."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from hqclip.errors import ConfigError, NotFoundError
from hqclip.store import ObjectInfo, Store, open_store, split_uri

MAX_NAMES = 2_000_000
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def list_shards(pattern: str) -> list[tuple[Store, ObjectInfo]]:
    """The shards that exist, in the order the pattern gives, each with the store that holds it.

    `a/{00000..00099}.tar` names a range, every one of which must exist; `a/*.tar` and `a` (a folder) name what is
    there; commas join patterns. Raises `ConfigError` for an impossible range, `NotFoundError` if a shard is missing.
    """
    found = [shard for part in split_patterns(pattern) for shard in _matching(part)]
    names: dict[str, str] = {}
    for store, info in found:
        place = f"{store.uri}/{info.key}"
        if names.setdefault(info.key, place) != place:
            raise ConfigError(f"{names[info.key]} and {place} have the same name; rename one, or give one of them")
    return found


def split_patterns(pattern: str) -> list[str]:
    """Split at commas. Raises `ConfigError` if nothing is left."""
    parts = [part.strip() for part in pattern.split(",") if part.strip()]
    if not parts:
        raise ConfigError("no shards are named; give a folder, a range such as a/{00000..00099}.tar, or a glob")
    return parts


def _matching(pattern: str) -> Iterator[tuple[Store, ObjectInfo]]:
    if not pattern.endswith(".tar"):
        pattern = pattern.rstrip("/") + "/*.tar"
    folder, name = split_uri(pattern)
    if "*" in folder or "{" in folder:
        raise ConfigError(f"{pattern!r}: ranges and globs may stand in the name of the shard only, not in its folder")
    store = open_store(folder)
    if "*" in name:
        names = [key for key in store.list(name.partition("*")[0]) if "/" not in key and fnmatch.fnmatch(key, name)]
        if not names:
            raise NotFoundError(f"no shards match {pattern}; look at what is in {folder}")
    else:
        names = expand(name)
    for number, key in enumerate(names):
        info = store.stat(key)
        if info is None:
            raise NotFoundError(
                f"{folder}/{key} does not exist ({number} of the {len(names)} shards of {pattern} found)"
            )
        yield store, info


def expand(name: str) -> list[str]:
    """`{08..10}.tar` -> `08.tar`, `09.tar`, `10.tar`. Raises `ConfigError` for an empty or an enormous range."""
    match = _RANGE.search(name)
    if match is None:
        return [name]
    first, last = int(match[1]), int(match[2])
    if first > last:
        raise ConfigError(f"shard range {match[0]} is empty: the first number is the larger one")
    if last - first >= MAX_NAMES:
        raise ConfigError(f"shard range {match[0]} names {last - first + 1:,} shards; the limit is {MAX_NAMES:,}")
    tails = expand(name[match.end() :])
    return [f"{name[: match.start()]}{n:0{len(match[1])}d}{tail}" for n in range(first, last + 1) for tail in tails]
