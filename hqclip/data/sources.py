"""Which shards a pattern names: folders, brace ranges and globs, in local folders and buckets."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from hqclip.errors import ConfigError, NotFoundError
from hqclip.store import ObjectInfo, Store, open_store, split_uri

MAX_NAMES = 2_000_000
MAX_DIGITS = 18
_RANGE = re.compile(r"\{([0-9]+)\.\.([0-9]+)\}")
_WILD = re.compile(r"[*?\[]")


def list_shards(pattern: str) -> list[tuple[Store, ObjectInfo]]:
    """The shards that exist, in the order the pattern gives, each with the store that holds it.

    `a/{00000..00099}.tar` names a range, every one of which must exist; `a/*.tar` and `a` (a folder) name what is
    there; commas join patterns, and a shard that is named twice counts once. Raises `ConfigError` for an impossible
    range, `NotFoundError` if a shard is missing.
    """
    found: dict[str, tuple[Store, ObjectInfo]] = {}
    for store, info in (shard for part in split_patterns(pattern) for shard in _matching(part)):
        first = found.setdefault(info.key, (store, info))[0].uri
        if first != store.uri:
            raise ConfigError(
                f"{first}/{info.key} and {store.uri}/{info.key} have the same name; rename one, or give one of them"
            )
    return list(found.values())


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
    if _WILD.search(folder) or "{" in folder:
        raise ConfigError(f"{pattern!r}: ranges and globs may stand in the name of the shard only, not in its folder")
    store = open_store(folder)
    if wild := _WILD.search(name):
        names = [key for key in store.list(name[: wild.start()]) if "/" not in key and fnmatch.fnmatchcase(key, name)]
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
    count, names, end = 1, [""], 0
    for match in _RANGE.finditer(name):
        count *= _count(*match.groups())
        if count > MAX_NAMES:
            raise ConfigError(f"shard range {name} names {count:,} shards or more; the limit is {MAX_NAMES:,}")
    for match in _RANGE.finditer(name):
        between, end = name[end : match.start()], match.end()
        numbers = [f"{n:0{len(match[1])}d}" for n in range(int(match[1]), int(match[2]) + 1)]
        names = [head + between + number for head in names for number in numbers]
    return [head + name[end:] for head in names]


def _count(first: str, last: str) -> int:
    if max(len(first), len(last)) > MAX_DIGITS:
        raise ConfigError(f"a shard range has numbers of more than {MAX_DIGITS} digits")
    if int(first) > int(last):
        raise ConfigError(f"shard range {{{first}..{last}}} is empty: the first number is the larger one")
    return int(last) - int(first) + 1
