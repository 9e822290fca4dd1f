"""A data set version in, training samples out; what a step sees is a pure function of its number.

Nothing is remembered between steps, so a run that resumes at step n sees what an undisturbed run would have seen.
Samples are shuffled within blocks of shards and blocks of shards are drawn at random, so only a few are open at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from hqclip.data.dataset import DatasetShard
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import ShardImages, ShardIndex, read_index
from hqclip.data.sidecar import UNUSABLE, CuratedRow, Flag, read_curated
from hqclip.errors import DataError
from hqclip.store import Store

Integers = np.ndarray[Any, np.dtype[np.int64]]
BLOCK = 16  # shards whose samples are shuffled together
OPEN = 2 * BLOCK  # shards kept in memory: the block in use and the one before it


@dataclass(frozen=True)
class TextPolicy:
    """Which text stands for an image: the generated one with probability `generated_share`, else the alt-text.

    A generated text has at most `max_sentences` neighbouring sentences of the description.
    """

    generated_share: float
    max_sentences: int
    seed: int


@dataclass(frozen=True)
class TrainingSample:
    """One image, (height, width, 3) uint8, with the text of this step and what contradicts it ("" for nothing)."""

    image: np.ndarray[Any, np.dtype[np.uint8]]
    text: str
    negative: str
    tags: tuple[str, ...]
    neg_tags: tuple[str, ...]


@dataclass(frozen=True)
class _OpenShard:
    index: ShardIndex
    images: ShardImages
    rows: list[CuratedRow]
    usable: Integers


class TrainingSet:
    """The usable samples of a data set version, epoch after epoch. Raises `DataError` if there are none."""

    def __init__(self, store: Store, shards: tuple[DatasetShard, ...], policy: TextPolicy) -> None:
        self._store = store
        self._shards = tuple(shard for shard in shards if shard.usable_rows)
        self._policy = policy
        self.num_samples = sum(shard.usable_rows for shard in self._shards)
        if not self.num_samples:
            raise DataError("the data set has no usable sample; dataset.json counts why")
        self._open = lru_cache(OPEN)(self._open_shard)
        self._block = lru_cache(2)(self._shuffled_block)
        self._epoch = lru_cache(2)(self._shard_order)

    def batch(self, step: int, batch_size: int) -> list[TrainingSample]:
        """The samples of one step, counted from 0. Epochs follow each other without a gap; none is padded."""
        return [self.sample(position) for position in range(step * batch_size, (step + 1) * batch_size)]

    def sample(self, position: int) -> TrainingSample:
        """The sample at a place in the endless sequence of epochs. Raises `DataError` if its image is damaged."""
        number, place = self.place(position)
        shard = self._open(number)
        row = int(shard.usable[place])
        curated = shard.rows[row]
        draws = np.random.Generator(np.random.Philox(key=[self._policy.seed, position])).random(3)
        text, negative = choose_texts(curated, shard.index.texts[row], self._policy, draws)
        annotation = curated.annotation
        return TrainingSample(
            self._image(number, row),
            text,
            negative,
            annotation.tags if annotation else (),
            annotation.neg_tags if annotation else (),
        )

    def _image(self, number: int, row: int) -> Pixels:
        shard = self._open(number)
        try:
            return decode(shard.images.read(row))
        except ImageFault as fault:
            where = f"{self._store.uri}/{self._shards[number].key}, sample {shard.index.uids[row]}"
            raise DataError(
                f"{where}: {fault}, though `annotate` could read it; run it again with this version"
            ) from fault

    def place(self, position: int) -> tuple[int, int]:
        """(shard, n-th usable row) of a position."""
        epoch, rest = divmod(position, self.num_samples)
        order, starts = self._epoch(epoch)
        block = int(np.searchsorted(starts, rest, side="right")) - 1
        shards, rows = self._block(epoch, block)
        at = rest - int(starts[block])
        return int(shards[at]), int(rows[at])

    def _shard_order(self, epoch: int) -> tuple[Integers, Integers]:
        """Shards in the order of the epoch, and where each block of them begins."""
        order = self._random(epoch).permutation(len(self._shards))
        sizes = np.array([self._shards[number].usable_rows for number in order])
        return order, np.concatenate([[0], np.cumsum(np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK)))])[:-1]

    def _shuffled_block(self, epoch: int, block: int) -> tuple[Integers, Integers]:
        numbers = self._epoch(epoch)[0][block * BLOCK : (block + 1) * BLOCK]
        sizes = [self._shards[number].usable_rows for number in numbers]
        shuffled = self._random(epoch, block + 1).permutation(sum(sizes))
        return np.repeat(numbers, sizes)[shuffled], np.concatenate([np.arange(size) for size in sizes])[shuffled]

    def _random(self, epoch: int, block: int = 0) -> np.random.Generator:
        return np.random.default_rng([self._policy.seed, epoch, block])

    def _open_shard(self, number: int) -> _OpenShard:
        shard = self._shards[number]
        rows = read_curated(self._store, shard.curated, shard.entry)
        usable = np.array([n for n, row in enumerate(rows) if not row.flags & UNUSABLE])
        if len(usable) != shard.usable_rows:
            raise DataError(f"{shard.curated}: {len(usable)} usable rows, not {shard.usable_rows}; run `curate` again")
        index = read_index(self._store, shard.entry)
        return _OpenShard(index, ShardImages(self._store, shard.entry, index), rows, usable)


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
