"""A pool in, a few of its images out: drawn by seed across shards, each read alone and verified."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.protocol import Request
from hqclip.annotate.lvlm import Family
from hqclip.annotate.prompt import clean_alt_text
from hqclip.annotate.reader import token_cutter
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import SCHEMA
from hqclip.data.parquet import read_parquet
from hqclip.errors import DataError
from hqclip.records import Pool, ShardEntry
from hqclip.store import Store

BLOCK = 64  # shards whose indexes are read at a time: a draw from a large pool costs few of them


@dataclass(frozen=True)
class Place:
    """One image of a pool: where its bytes are and what they must be, with the alt-text found beside it."""

    shard: str
    offset: int
    size: int
    uid: str
    text: str
    sha256: str


def draw(store: Store, pool: Pool, seed: int, number: int) -> list[Place]:
    """`number` different images in random order. A larger draw with the same seed begins with the smaller one.

    Raises `DataError` if the pool has too few.
    """
    found: dict[str, Place] = {}
    for place in _in_random_order(store, pool, seed):
        if len(found) == number:
            break
        found.setdefault(place.sha256, place)
    if len(found) < number:
        raise DataError(
            f"pool {pool.digest} has {len(found)} different images, {number} are wanted (samples and held_out): "
            "give fewer, or a larger pool"
        )
    return list(found.values())


def _in_random_order(store: Store, pool: Pool, seed: int) -> Iterator[Place]:
    rng = np.random.default_rng([seed, int(pool.digest, 16)])
    shards = [pool.shards[at] for at in rng.permutation(len(pool.shards)).tolist()]
    for start in range(0, len(shards), BLOCK):
        places = [place for entry in shards[start : start + BLOCK] for place in _places(store, entry)]
        for at in rng.permutation(len(places)).tolist():
            yield places[at]


def _places(store: Store, entry: ShardEntry) -> list[Place]:
    table = read_parquet(store, entry.index, entry, SCHEMA)
    names = ("image_offset", "image_size", "uid", "text", "sha256")
    columns = (table[name].to_pylist() for name in names)
    return [
        Place(entry.key, offset, size, uid.hex(), text, sha256.hex())
        for offset, size, uid, text, sha256 in zip(*columns, strict=True)
    ]


@dataclass(frozen=True)
class Pictures:
    """Images and alt-text as the pupil will see them when it annotates; the teacher sees the same."""

    store: Store
    family: Family
    image_tokens: int
    cut: Callable[[str], str]

    @classmethod
    def of(cls, store: Store, pupil: Annotator, max_alt_tokens: int) -> Pictures:
        """Those of a pool in `store`, within the budget of the pupil."""
        return cls(store, pupil.family, pupil.image_tokens, token_cutter(_folder(pupil), max_alt_tokens))

    def request(self, place: Place, *, grammar: bool) -> Request | None:
        """What an engine is asked about this image; None if it cannot be decoded. Raises `DataError`."""
        try:
            image = self.show(self.read(place))
        except ImageFault:
            return None
        return Request(place.uid, image, self.alt_text(place), grammar=grammar, sha256=place.sha256)

    def read(self, place: Place) -> bytes:
        """The bytes of the image, one read of the store. Raises `DataError` if they are not what the index says."""
        data = self.store.read(place.shard, place.offset, place.size)
        if hashlib.sha256(data).hexdigest() != place.sha256:
            raise DataError(
                f"{self.store.uri}/{place.shard}: the image of {place.uid} is not the one that was indexed; "
                "delete the shard and its index, and run `hqclip download` again"
            )
        return data

    def show(self, data: bytes) -> Pixels:
        """(height, width, 3) within the budget. Raises `ImageFault`."""
        return self.family.fit(decode(data), self.image_tokens)

    def alt_text(self, place: Place) -> str:
        """The alt-text, cleaned and cut."""
        return self.cut(clean_alt_text(place.text))


def _folder(pupil: Annotator) -> Path:
    assert pupil.folder is not None, "a pupil is a model in a folder"
    return pupil.folder
