"""The number of a step in, which samples it sees out: a pure function, so nothing is remembered between steps.

Samples are shuffled within blocks of shards and blocks of shards are drawn at random, so only a few are open at once;
a rank of many opens only some of these. The samples of a step are the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
BLOCK = 16  # shards whose samples are shuffled together


class Places(NamedTuple):
    """Where samples lie, an item for each: shard, n-th usable row, and how far into its block (0 to 1, unshuffled)."""

    shards: Integers
    rows: Integers
    depths: Floats


class Sampler:
    """An endless sequence of samples, epoch after epoch without a gap, out of shards of these `sizes`, none empty."""

    def __init__(self, sizes: Sequence[int], seed: int) -> None:
        self._sizes = sizes
        self._seed = seed
        self.num_samples = sum(sizes)
        self._block = lru_cache(2)(self._shuffled_block)
        self._epoch = lru_cache(2)(self._shard_order)

    def part(self, step: int, batch_size: int, rank: int, world: int) -> tuple[Integers, Integers, Integers]:
        """(positions, shards, n-th usable rows) that fall to one of `world` ranks in a step, in the order of shards.

        Rank r of W takes what lies in the r-th of W equal runs of every block as it is before shuffling, so it meets
        few shards of a block, and the same ones in every step.
        """
        places, size = self.places(step * batch_size, (step + 1) * batch_size), batch_size // world
        own = np.argsort(places.depths, kind="stable")[rank * size : (rank + 1) * size]
        return step * batch_size + own, places.shards[own], places.rows[own]

    def places(self, first: int, last: int) -> Places:
        """Where the samples at positions `first` up to, not including, `last` of the endless sequence lie."""
        found = [
            [column[start:end] for column in self._block(epoch, block)]
            for epoch, block, start, end in self._stretches(first, last)
        ]
        return Places(*(np.concatenate(columns) for columns in zip(*found, strict=True)))

    def shards_around(self, first: int, last: int) -> set[int]:
        """The shards of all blocks that these positions lie in."""
        blocks = [self._members(epoch, block).tolist() for epoch, block, _, _ in self._stretches(first, last)]
        return {number for members in blocks for number in members}

    def _stretches(self, first: int, last: int) -> Iterator[tuple[int, int, int, int]]:
        """(epoch, block, start, end): the blocks that positions lie in, and from where to where in each."""
        while first < last:
            epoch, rest = divmod(first, self.num_samples)
            starts = self._epoch(epoch)[1]
            block = int(np.searchsorted(starts, rest, side="right")) - 1
            start, end = rest - int(starts[block]), int(starts[block + 1]) - int(starts[block])
            end = min(end, start + last - first)
            yield epoch, block, start, end
            first += end - start

    def _shard_order(self, epoch: int) -> tuple[Integers, Integers]:
        """Shards in the order of the epoch, and where each block of them begins; the last number is where all end."""
        order = self._generator(epoch).permutation(len(self._sizes))
        sizes = np.array([self._sizes[number] for number in order])
        return order, np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK)))])

    def _members(self, epoch: int, block: int) -> Integers:
        return self._epoch(epoch)[0][block * BLOCK : (block + 1) * BLOCK]

    def _shuffled_block(self, epoch: int, block: int) -> Places:
        numbers = self._members(epoch, block)
        sizes = [self._sizes[number] for number in numbers]
        shuffled = self._generator(epoch, block + 1).permutation(sum(sizes))
        rows = np.concatenate([np.arange(size) for size in sizes])
        return Places(np.repeat(numbers, sizes)[shuffled], rows[shuffled], shuffled / len(shuffled))

    def _generator(self, epoch: int, block: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._seed, epoch, block])
