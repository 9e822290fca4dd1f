"""Samples of a step in, tensors for the model out, prepared a few steps ahead.

One thread goes through the steps in order, opens shards, chooses texts and talks to the other ranks; a few decode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from hqclip.clip import fit
from hqclip.config import TrainConfig
from hqclip.data.loader import TrainingSample, TrainingSet
from hqclip.ranks import GlooGroup, Ranks
from hqclip.train.model import HQClip

PREFETCH = 4  # steps prepared in advance


@dataclass(frozen=True)
class Batch:
    """What one rank sees of a step. B: its images, the first P of which have a negative; T: tag vocabulary; L: tokens.

    `num_negatives` and `num_tags` (true tags) are means over the ranks: what sums over a rank are divided by, so that
    the mean of the ranks' losses is the loss of the whole step.
    """

    pixels_B3HW: Tensor
    text_BL: Tensor
    negative_PL: Tensor
    target_BT: Tensor
    weight_BT: Tensor
    num_negatives: float
    num_tags: float
    uids: tuple[str, ...] = ()

    def to(self, device: torch.device) -> Batch:
        """The batch on the device of the model."""
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in vars(self).items()
        }
        return Batch(**moved)


class Batches:
    """The batches of a run; what a step holds depends on its number alone, and each rank takes its share of it."""

    def __init__(
        self, data: TrainingSet, model: HQClip, vocabulary: Sequence[str], config: TrainConfig, ranks: Ranks
    ) -> None:
        self._data = data
        self._model = model
        self._tag_ids = {tag: number for number, tag in enumerate(vocabulary)}
        self._config = config
        self._ranks = ranks

    def prefetch(self, first: int, last: int) -> Generator[Batch, None, None]:
        """The batches of steps `first` up to, not including, `last`. A fault on one rank is raised on all."""
        group = GlooGroup(self._ranks.world_size)  # the thread's own: its steps are not those of the main thread
        # each decoder with one thread of torch, not with a team of its own that fights those of the others
        decoders = ThreadPoolExecutor(self._config.decode_threads, "decode", torch.set_num_threads, (1,))
        with decoders, ThreadPoolExecutor(1, "loader") as pool:  # this one ends first: its steps need the decoders
            waiting: deque[Future[Batch]] = deque()
            for step in range(first, last):
                waiting.append(pool.submit(self._batch_on_all_ranks, step, group, decoders))
                if len(waiting) > PREFETCH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def _batch_on_all_ranks(self, step: int, group: GlooGroup, decoders: Executor) -> Batch:
        own = group.on_all_ranks(lambda: self.batch(step, decoders))
        num_negatives, num_tags = group.mean([own.num_negatives, own.num_tags])
        return replace(own, num_negatives=num_negatives, num_tags=num_tags)

    def batch(self, step: int, decoders: Executor) -> Batch:
        """This rank's share of a step, counted by itself; its images are decoded by `decoders`.

        Samples with a negative come first; the order within a batch carries no information. Of several faults the
        first in this order is raised.
        """
        ranks, config = self._ranks, self._config
        share = self._data.share(step, config.batch_size, ranks.rank, ranks.world_size)
        samples = sorted(share, key=lambda sample: not sample.negative)
        pixels = decoders.map(self._preprocess, samples)  # begins at once, beside what is done here
        negatives = [sample.negative for sample in samples if sample.negative]
        tokens = self._model.tokenizer([sample.text for sample in samples] + negatives)
        target, weight = tag_targets(
            [self._ids(sample.tags) for sample in samples],
            [self._ids(sample.neg_tags) for sample in samples],
            len(self._tag_ids),
            config.false_tag_weight,
        )
        return Batch(
            torch.stack(list(pixels)),
            tokens[: len(samples)],
            tokens[len(samples) :],
            target,
            weight,
            len(negatives),
            float(target.sum()),
            tuple(sample.uid for sample in samples),
        )

    def _preprocess(self, sample: TrainingSample) -> Tensor:
        return fit(sample.pixels(), self._model.image_size)

    def _ids(self, tags: Sequence[str]) -> list[int]:
        return [self._tag_ids[tag] for tag in tags if tag in self._tag_ids]


def tag_targets(
    tags: list[list[int]], neg_tags: list[list[int]], size: int, false_tag_weight: float
) -> tuple[Tensor, Tensor]:
    """Targets (B, T), 1 for every tag; weights (B, T), `false_tag_weight` where the LVLM denies a tag and else 1."""
    target_BT = torch.zeros(len(tags), size)
    weight_BT = torch.ones(len(tags), size)
    for row, (true, false) in enumerate(zip(tags, neg_tags, strict=True)):
        weight_BT[row, false] = false_tag_weight
        weight_BT[row, true] = 1.0
        target_BT[row, true] = 1.0
    return target_BT, weight_BT
