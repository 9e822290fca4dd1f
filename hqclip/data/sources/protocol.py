"""What a place must know of the shards in it to be read from once: less than a store does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")  # of the names of shards; those after: packed


@dataclass(frozen=True)
class RemoteShard:
    """One shard where it comes from: `size` in bytes, and an `identity` that changes with the content.

    The identity is the crc32c, as unsigned integer, where the source knows it, and otherwise text, such as an ETag.
    """

    uri: str
    size: int
    identity: int | str

    @property
    def name(self) -> str:
        """`gs://bucket/pool/00012.tar` -> `00012.tar`, and so does `00012.tar.gz`, which will be unpacked."""
        name = self.uri.rpartition("/")[2]
        return tar_name(name) or name


def tar_name(name: str) -> str:
    """What a shard is called once it is unpacked; "" if this is the name of none."""
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), "")
    return name.removesuffix(ending) + ".tar" if ending else ""


class Source(Protocol):
    """Shards of one scheme, for any number of threads. Raises `AccessError`, `UnavailableError` and `StorageError`."""

    def list(self, pattern: str) -> Iterator[RemoteShard]:
        """The shards that a range or a glob names, in the order it gives; of a glob, what ends as shards do.

        Raises `ConfigError` for a pattern that this source cannot follow, `NotFoundError` if a shard is missing.
        """
        ...

    def download(self, shard: RemoteShard, path: Path) -> None:
        """Copy it whole to the local `path`, or raise."""
        ...
