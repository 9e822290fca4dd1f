"""Which shards a pattern names, and where they come from: one file a kind of place."""

from __future__ import annotations

from collections.abc import Callable

from hqclip.data.sources.patterns import split_patterns
from hqclip.data.sources.protocol import RemoteShard, Source
from hqclip.data.sources.s3 import S3Source
from hqclip.data.sources.stores import StoreSource
from hqclip.errors import ConfigError

SOURCES: dict[str, Callable[[], Source]] = {  # by scheme
    "gs": StoreSource,
    "s3": S3Source,
    "file": StoreSource,
    "": StoreSource,
}


def list_shards(pattern: str) -> list[tuple[Source, RemoteShard]]:
    """The shards that exist, in the order the pattern gives, each with its source.

    `a/{00000..00099}.tar` names a range, every one of which must exist; `a/*.tar` and `a` (a folder) name what is
    there; names may also end in `.tar.gz`, `.tgz`, `.tar.zst`, `.tar.bz2` or `.tar.xz`; commas join patterns, and a
    shard that is named twice counts once. Raises `ConfigError` for an impossible
    range, `NotFoundError` if a shard is missing.
    """
    found: dict[str, tuple[Source, RemoteShard]] = {}
    for part in split_patterns(pattern):
        source = _source_of(part)
        for shard in source.list(part):
            first = found.setdefault(shard.name, (source, shard))[1]
            if first.uri != shard.uri:
                raise ConfigError(f"{first.uri} and {shard.uri} have the same name; rename one, or give one of them")
    return list(found.values())


def _source_of(pattern: str) -> Source:
    """Stores say themselves which schemes they do not know."""
    scheme, colon, _ = pattern.partition("://")
    return SOURCES.get(scheme if colon else "", StoreSource)()
