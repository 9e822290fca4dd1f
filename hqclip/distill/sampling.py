"""A pool in, a few of its images out: drawn by seed across shards, of which only the indexes are read."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from hqclip.data.index import SCHEMA
from hqclip.data.parquet import read_parquet
from hqclip.distill.pool_images import ImageRef
from hqclip.errors import DataError
from hqclip.records import Pool, ShardEntry
from hqclip.store import Store

BLOCK = 64  # shards whose indexes are read at a time: a sample of a large pool costs few of them


def sample(store: Store, pool: Pool, seed: int, number: int) -> list[ImageRef]:
    """`number` different images in random order. A larger sample with the same seed begins with the smaller one.

    Raises `DataError` if the pool has too few.
    """
    found: dict[str, ImageRef] = {}
    for ref in _in_random_order(store, pool, seed):
        if len(found) == number:
            break
        found.setdefault(ref.sha256, ref)
    if len(found) < number:
        raise DataError(
            f"pool {pool.digest} has {len(found)} different images, {number} are wanted (samples and held_out): "
            "give fewer, or a larger pool"
        )
    return list(found.values())


def _in_random_order(store: Store, pool: Pool, seed: int) -> Iterator[ImageRef]:
    rng = np.random.default_rng([seed, int(pool.digest, 16)])
    shards = [pool.shards[at] for at in rng.permutation(len(pool.shards)).tolist()]
    for start in range(0, len(shards), BLOCK):
        refs = [ref for entry in shards[start : start + BLOCK] for ref in _refs(store, entry)]
        for at in rng.permutation(len(refs)).tolist():
            yield refs[at]


def _refs(store: Store, entry: ShardEntry) -> list[ImageRef]:
    table = read_parquet(store, entry.index, entry, SCHEMA)
    names = ("image_offset", "image_size", "uid", "text", "sha256")
    columns = (table[name].to_pylist() for name in names)
    return [
        ImageRef(entry.key, offset, size, uid.hex(), text, sha256.hex())
        for offset, size, uid, text, sha256 in zip(*columns, strict=True)
    ]
