"""Pictures in, shards of them in a suite's store out, each named by its content; one shard at a time is on disk.

The files are copied as they are; each is decoded once, so that no evaluation ends for it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

from hqclip import log
from hqclip.data.images import ImageFault, decode_picture, extension
from hqclip.data.tar import write_tar
from hqclip.errors import DataError
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source
from hqclip.evaluate.manifest import ShardFile
from hqclip.store import Store
from hqclip.store.leftovers import scratch_folder

SHARD_BYTES = 256 << 20  # of images, before the next shard begins
WHO = "suite import"


class Packed(NamedTuple):
    """The shards in order, and what each picture that is in one of them is called there."""

    shards: tuple[ShardFile, ...]
    uids: dict[str, str]


def pack(store: Store, pictures: Iterator[Picture], source: Source, shard_bytes: int = SHARD_BYTES) -> Packed:
    """Write `images/{sha256}.tar` for so many bytes of pictures at a time.

    Raises `DataError` for one that cannot be used, unless such are left out, and for a key that comes twice.
    """
    shards: list[ShardFile] = []
    uids: dict[str, str] = {}
    named = _named(_usable(pictures, source), uids)
    for first in named:
        with scratch_folder() as folder:
            path = folder / "images.tar"
            with path.open("wb") as file:
                write_tar(file, _until_full(first, named, shard_bytes))
            with path.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            written = store.write(f"images/{sha256[:32]}.tar", path)
        shards.append(ShardFile(written.key, written.size, written.crc32c))
        log.info(WHO, f"{len(uids)} images in {len(shards)} shards")
    return Packed(tuple(shards), uids)


def _until_full(first: tuple[str, bytes], rest: Iterator[tuple[str, bytes]], limit: int) -> Iterator[tuple[str, bytes]]:
    """Members of one shard: each image with a text that is empty, since a sample has one."""
    size = 0
    name, data = first
    while True:
        yield name, data
        yield f"{name.partition('.')[0]}.txt", b""
        size += len(data)
        if size >= limit:
            return
        following = next(rest, None)
        if following is None:
            return
        name, data = following


def _named(pictures: Iterator[Picture], uids: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Names of members. A picture that is there twice, under two keys, counts twice: as the sets have it."""
    for key, data in pictures:
        if key in uids:
            raise DataError(f"the image {key} comes twice in the source; take one of them out")
        uids[key] = hashlib.sha256(key.encode() + b"\0" + data).hexdigest()[:32]
        yield f"{uids[key]}.{extension(data)}", data


def _usable(pictures: Iterator[Picture], source: Source) -> Iterator[Picture]:
    """Those that can be decoded."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        while some := list(islice(pictures, 4 * workers)):
            for picture, fault in zip(some, pool.map(_fault, some), strict=True):
                if fault is None:
                    yield picture
                else:
                    place = f"{source.config.images or source.folder}, image {picture.key}"
                    source.leave_out(fault.reason, f"{place} cannot be used: {fault}")


def _fault(picture: Picture) -> ImageFault | None:
    try:
        decode_picture(picture.data)
    except ImageFault as fault:
        return fault
    return None
