"""Shards in local folders and buckets, read as stores are: verified by crc32c."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hqclip import log
from hqclip.data.sources.patterns import WILD, expand, split_pattern
from hqclip.data.sources.protocol import RemoteShard, tar_name
from hqclip.errors import NotFoundError
from hqclip.store import Store, open_store, split_uri


class StoreSource:
    """What lies where a store could be. Raises `ConfigError` for a scheme that is none of a store."""

    def __init__(self) -> None:
        self._open = cache(open_store)  # one connection a folder

    def list(self, pattern: str) -> Iterator[RemoteShard]:
        """Ranges, every one of which must exist, and globs; where there are plain shards, they name no packed ones."""
        folder, name = split_pattern(pattern)
        store = self._open(folder)
        if wild := WILD.search(name):
            listed = store.list(name[: wild.start()])
            found = [key for key in listed if "/" not in key and tar_name(key) and fnmatch.fnmatchcase(key, name)]
            names = _plain(found, pattern)
            if not names:
                raise NotFoundError(f"no shards match {pattern}; look at what is in {folder}")
        else:
            names = expand(name)
        for number, key in enumerate(names):
            there = self._look(store, key)
            if there is None:
                raise NotFoundError(
                    f"{folder}/{key} does not exist ({number} of the {len(names)} shards of {pattern} found)"
                )
            yield RemoteShard(f"{store.uri}/{key}", *there)

    def _look(self, store: Store, key: str) -> tuple[int, int | str] | None:
        """Size and identity of a shard; None if it is not there."""
        info = store.stat(key)
        return None if info is None else (info.size, info.crc32c)

    def download(self, shard: RemoteShard, path: Path) -> None:
        """Verified by size and crc32c."""
        folder, name = split_uri(shard.uri)
        self._open(folder).download(name, path)


def _plain(found: list[str], pattern: str) -> list[str]:
    """Those that are not packed, if there are any: what is packed beside them may be anything, and is named."""
    plain = [key for key in found if key == tar_name(key)]
    left_out = set(map(tar_name, found)) - set(plain)
    if plain and left_out:
        log.warning(
            "download",
            f"{pattern}: of the {len(found)} archives there, {len(plain)} end in .tar and are taken; "
            f"{len(left_out)} are packed and are not (first: {min(left_out)}): name them if they are shards",
        )
    return plain or found
