"""What a person names in, its first samples out; of a shard in a bucket no more is read than they need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from hqclip.data.dataset import read_dataset
from hqclip.data.index import read_index
from hqclip.data.shards import first_samples
from hqclip.data.sidecar import read_annotations, read_curated
from hqclip.data.sources import list_shards
from hqclip.data.sources.protocol import RemoteShard, Source
from hqclip.data.sources.stores import StoreSource
from hqclip.data.tar import Damage
from hqclip.data.unpack import is_packed, unpack
from hqclip.errors import DataError, NotFoundError
from hqclip.peek.config import PeekConfig
from hqclip.records import AnnotatedRow, Pool, ShardEntry
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder


@dataclass(frozen=True)
class Peeked:
    """One sample: where it is, and what there is of it; `fault` says why a sample of a shard cannot be used.

    `written` is what the LVLM said, curated in a data set version; None where nobody was asked yet.
    """

    shard: str
    row: int
    name: str
    text: str = ""
    image: bytes = b""
    written: AnnotatedRow | None = None
    fault: str = ""


def peek(config: PeekConfig) -> Iterator[Peeked]:
    """Up to `config.num` samples. Raises `NotFoundError`, and `DataError` for what is damaged before they are found."""
    if config.shards:
        return islice(_of_shards(config), config.num)
    return islice(_of_dataset(config) if config.dataset else _of_pool(config), config.num)


def _of_shards(config: PeekConfig) -> Iterator[Peeked]:
    for source, shard in list_shards(config.shards):
        with scratch_folder() as folder, _opened(source, shard, folder) as file:
            found = first_samples(file, config.num)
            for number, (key, row) in enumerate(found.samples):
                if isinstance(row, str):
                    yield Peeked(shard.uri, number, key, fault=row)
                    continue
                file.seek(row.image_offset)
                yield Peeked(shard.uri, number, row.uid, row.text, file.read(row.image_size))
            if found.damage:
                raise DataError(f"{shard.uri} is damaged: {found.damage}")


def _opened(source: Source, shard: RemoteShard, folder: Path) -> BinaryIO:
    """The tar: where it lies, if that is a store and it is not packed, else a copy."""
    if isinstance(source, StoreSource):
        place, name = split_uri(shard.uri)
        file = open_store(place).open(name)
        if not is_packed(file):
            return file
        file.close()
    path = folder / "shard.tar"
    source.download(shard, path)
    try:
        unpack(path)
    except Damage as damage:
        raise DataError(f"{shard.uri} is damaged: {damage}") from damage
    return path.open("rb")


def _of_pool(config: PeekConfig) -> Iterator[Peeked]:
    store = open_store(config.store)
    for entry in Pool.from_json(store.read(config.pool), config.pool).shards:
        sidecar = f"{config.annotations}/{entry.name}.parquet"
        said: list[AnnotatedRow] = []
        with suppress(NotFoundError):  # it is not annotated, or no longer
            said = read_annotations(store, sidecar, entry) if config.annotations else []
        yield from _rows(store, entry, said)


def _of_dataset(config: PeekConfig) -> Iterator[Peeked]:
    store = open_store(config.store)
    for shard in read_dataset(store, config.dataset)[1]:
        yield from _rows(store, shard.entry, read_curated(store, shard.curated, shard.entry))


def _rows(store: Store, entry: ShardEntry, written: Sequence[AnnotatedRow]) -> Iterator[Peeked]:
    """Of an indexed shard, of which only the images are read that are asked for."""
    index = read_index(store, entry)
    for row, (uid, text) in enumerate(zip(index.uids, index.texts, strict=True)):
        image = store.read(entry.key, index.offsets[row], index.sizes[row])
        yield Peeked(f"{store.uri}/{entry.key}", row, uid, text, image, written[row] if written else None)
