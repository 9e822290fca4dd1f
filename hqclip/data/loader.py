"""A data set version in, training samples out; what a step sees is a pure function of its number.

Nothing is remembered between steps, so a run that resumes at step n sees what an undisturbed run would have seen.
Samples are shuffled within blocks of shards and blocks of shards are drawn at random, so only a few are open at once;
a rank of many opens only some of these. The samples of a step are the same for any number of ranks.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from hqclip.data.dataset import DatasetShard
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import ShardImages, ShardIndex, read_index
from hqclip.data.sidecar import UNUSABLE, CuratedRow, Flag, read_curated
from hqclip.errors import DataError
from hqclip.store import Store

Integers = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
BLOCK = 16  # shards whose samples are shuffled together


@dataclass(frozen=True)
class TextPolicy:
    """Which text stands for an image: the generated one with probability `generated_share`, else the alt-text.

    A generated text has at most `max_sentences` neighbouring sentences of the description.
    """

    generated_share: float
    max_sentences: int
    seed: int


@dataclass(frozen=True)
class OpenShard:
    """A verified shard with its texts; `usable` are the rows to train on, `where` is for people."""

    where: str
    index: ShardIndex
    images: ShardImages
    rows: list[CuratedRow]
    usable: Integers


@dataclass(frozen=True)
class TrainingSample:
    """One image with the text of this step and what contradicts it ("" for nothing)."""

    text: str
    negative: str
    tags: tuple[str, ...]
    neg_tags: tuple[str, ...]
    shard: OpenShard
    row: int

    def pixels(self) -> Pixels:
        """(height, width, 3) uint8, read and decoded now, in any thread. Raises `DataError` if the image is damaged."""
        try:
            return decode(self.shard.images.read(self.row))
        except ImageFault as fault:
            raise DataError(
                f"{self.shard.where}, sample {self.shard.index.uids[self.row]}: {fault}, "
                "though `annotate` could read it; run it again with this version"
            ) from fault


class Places(NamedTuple):
    """Where samples lie, an item for each: shard, n-th usable row, and how far into its block (0 to 1, unshuffled)."""

    shards: Integers
    rows: Integers
    depths: Floats


class TrainingSet:
    """The usable samples of a data set version, epoch after epoch, for one thread. `DataError` if there are none."""

    def __init__(self, store: Store, shards: tuple[DatasetShard, ...], policy: TextPolicy) -> None:
        self._store = store
        self._shards = tuple(shard for shard in shards if shard.usable_rows)
        self._policy = policy
        self.num_samples = sum(shard.usable_rows for shard in self._shards)
        if not self.num_samples:
            raise DataError("the data set has no usable sample; dataset.json counts why")
        self._open: dict[int, OpenShard] = {}
        self._block = lru_cache(2)(self._shuffled_block)
        self._epoch = lru_cache(2)(self._shard_order)

    def share(self, step: int, batch_size: int, rank: int = 0, world: int = 1) -> list[TrainingSample]:
        """What one of `world` ranks sees of a step, counted from 0. Epochs follow each other without a gap.

        The shards it needs are open afterwards, those of blocks that are over are not.
        """
        positions, shards, rows = self.part(step, batch_size, rank, world)
        self._open_only(dict.fromkeys(shards.tolist()), self._around(step * batch_size, (step + 1) * batch_size))
        places = zip(positions.tolist(), shards.tolist(), rows.tolist(), strict=True)
        return [self._sample(position, self._open[shard], row) for position, shard, row in places]

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

    def _around(self, first: int, last: int) -> set[int]:
        """The shards of all blocks that these positions lie in."""
        blocks = [self._members(epoch, block).tolist() for epoch, block, _, _ in self._stretches(first, last)]
        return {number for members in blocks for number in members}

    def _open_only(self, wanted: Iterable[int], kept: Container[int]) -> None:
        self._open = {number: shard for number, shard in self._open.items() if number in kept}
        for number in wanted:
            if number not in self._open:
                self._open[number] = self._open_shard(number)

    def _sample(self, position: int, shard: OpenShard, place: int) -> TrainingSample:
        row = int(shard.usable[place])
        curated = shard.rows[row]
        draws = np.random.Generator(np.random.Philox(key=[self._policy.seed, position])).random(3)
        text, negative = choose_texts(curated, shard.index.texts[row], self._policy, draws)
        annotation = curated.annotation
        return TrainingSample(
            text,
            negative,
            annotation.tags if annotation else (),
            annotation.neg_tags if annotation else (),
            shard,
            row,
        )

    def _shard_order(self, epoch: int) -> tuple[Integers, Integers]:
        """Shards in the order of the epoch, and where each block of them begins; the last number is where all end."""
        order = self._random(epoch).permutation(len(self._shards))
        sizes = np.array([self._shards[number].usable_rows for number in order])
        return order, np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK)))])

    def _members(self, epoch: int, block: int) -> Integers:
        return self._epoch(epoch)[0][block * BLOCK : (block + 1) * BLOCK]

    def _shuffled_block(self, epoch: int, block: int) -> Places:
        numbers = self._members(epoch, block)
        sizes = [self._shards[number].usable_rows for number in numbers]
        shuffled = self._random(epoch, block + 1).permutation(sum(sizes))
        rows = np.concatenate([np.arange(size) for size in sizes])
        return Places(np.repeat(numbers, sizes)[shuffled], rows[shuffled], shuffled / len(shuffled))

    def _random(self, epoch: int, block: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._policy.seed, epoch, block])

    def _open_shard(self, number: int) -> OpenShard:
        shard = self._shards[number]
        rows = read_curated(self._store, shard.curated, shard.entry)
        usable = np.array([n for n, row in enumerate(rows) if not row.flags & UNUSABLE])
        if len(usable) != shard.usable_rows:
            raise DataError(f"{shard.curated}: {len(usable)} usable rows, not {shard.usable_rows}; run `curate` again")
        index = read_index(self._store, shard.entry)
        images = ShardImages(self._store, shard.entry, index)
        return OpenShard(f"{self._store.uri}/{shard.key}", index, images, rows, usable)


def choose_texts(row: CuratedRow, alt_text: str, policy: TextPolicy, draws: Any) -> tuple[str, str]:
    """The text of an image for one step, and its contradiction or "" where there is none to be trusted.

    A generated text begins at a sentence drawn in proportion to its words, since longer ones say more, and is never
    cut in the middle; its contradiction is the same run of sentences, each contradicted. Alt-text has none: the
    annotator's style would give the true text away. `draws` are three uniform numbers.
    """
    annotation = row.annotation
    wanted = draws[0] < policy.generated_share or bool(row.flags & Flag.WEAK_ALT_TEXT and policy.generated_share)
    if annotation is None or not wanted or not any(sentence.split() for sentence in annotation.desc):
        return alt_text, ""
    words = np.cumsum([len(sentence.split()) for sentence in annotation.desc])
    start = int(np.searchsorted(words, draws[1] * words[-1], side="right"))
    end = start + 1 + int(draws[2] * min(policy.max_sentences, len(annotation.desc) - start))
    false = annotation.neg_desc[start:end]
    trusted = len(false) == end - start and all(false) and not row.flags & Flag.NEGATIVE_LOOKS_TRUE
    return ". ".join(annotation.desc[start:end]), ". ".join(false) if trusted else ""
