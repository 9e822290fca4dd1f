"""A data set version in, training samples out; what a step sees is a pure function of its number.

Nothing is remembered between steps but which shards are open, so a run that resumes at step n sees what an undisturbed
run would have seen.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np

from hqclip.data.dataset import DatasetShard
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import ShardImages, ShardIndex, read_index
from hqclip.data.sampler import Integers, Sampler
from hqclip.data.sidecar import UNUSABLE, CuratedRow, read_curated
from hqclip.data.text_choice import TextPolicy, choose_texts
from hqclip.errors import DataError
from hqclip.store import Store


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

    @property
    def uid(self) -> str:
        """What names the image."""
        return self.shard.index.uids[self.row]

    def pixels(self) -> Pixels:
        """(height, width, 3) uint8, read and decoded now, in any thread. Raises `DataError` if the image is damaged."""
        try:
            return decode(self.shard.images.read(self.row))
        except ImageFault as fault:
            raise DataError(
                f"{self.shard.where}, sample {self.uid}: {fault}, though `annotate` could read it; delete what an "
                "older version wrote of this shard below annotations/, and run it and `curate` again"
            ) from fault


class TrainingSet:
    """The usable samples of a data set version, epoch after epoch, for one thread. `DataError` if there are none."""

    def __init__(self, store: Store, shards: tuple[DatasetShard, ...], policy: TextPolicy) -> None:
        self._store = store
        self._shards = tuple(shard for shard in shards if shard.usable_rows)
        self._policy = policy
        if not self._shards:
            raise DataError("the data set has no usable sample; dataset.json counts why")
        self.sampler = Sampler([shard.usable_rows for shard in self._shards], policy.seed)
        self.num_samples = self.sampler.num_samples
        self._open: dict[int, OpenShard] = {}

    def share(self, step: int, batch_size: int, rank: int = 0, world: int = 1) -> list[TrainingSample]:
        """What one of `world` ranks sees of a step, counted from 0. Epochs follow each other without a gap.

        The shards it needs are open afterwards, those of blocks that are over are not.
        """
        positions, shards, rows = self.sampler.part(step, batch_size, rank, world)
        kept = self.sampler.shards_around(step * batch_size, (step + 1) * batch_size)
        self._open_only(dict.fromkeys(shards.tolist()), kept)
        places = zip(positions.tolist(), shards.tolist(), rows.tolist(), strict=True)
        return [self._sample(position, self._open[shard], row) for position, shard, row in places]

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

    def _open_shard(self, number: int) -> OpenShard:
        shard = self._shards[number]
        rows = read_curated(self._store, shard.curated, shard.entry)
        usable = np.array([n for n, row in enumerate(rows) if not row.flags & UNUSABLE])
        if len(usable) != shard.usable_rows:
            raise DataError(f"{shard.curated}: {len(usable)} usable rows, not {shard.usable_rows}; run `curate` again")
        index = read_index(self._store, shard.entry)
        images = ShardImages(self._store, shard.entry, index)
        return OpenShard(f"{self._store.uri}/{shard.key}", index, images, rows, usable)
