"""Samples of a step in, tensors for the model out, prepared a few steps ahead in a thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hqclip.clip import fit
from hqclip.config import TrainConfig
from hqclip.data.loader import TrainingSet
from hqclip.train.losses import tag_targets
from hqclip.train.model import HQClip

AHEAD = 4  # steps prepared in advance


@dataclass(frozen=True)
class Batch:
    """B: images, the first P of which have a negative; T: tag vocabulary; L: tokens."""

    pixels_B3HW: Tensor
    text_BL: Tensor
    negative_PL: Tensor
    target_BT: Tensor
    weight_BT: Tensor

    def to(self, device: torch.device) -> Batch:
        """The batch on the device of the model."""
        return Batch(*(getattr(self, field.name).to(device, non_blocking=True) for field in fields(self)))


class Batches:
    """The batches of a run; what a step holds depends on its number alone."""

    def __init__(self, data: TrainingSet, model: HQClip, vocabulary: Sequence[str], config: TrainConfig) -> None:
        self._data = data
        self._model = model
        self._tag_ids = {tag: number for number, tag in enumerate(vocabulary)}
        self._config = config

    def ahead(self, first: int, last: int) -> Iterator[Batch]:
        """The batches of steps `first` up to, not including, `last`."""
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as pool:
            waiting: deque[Future[Batch]] = deque()
            for step in range(first, last):
                waiting.append(pool.submit(self.batch, step))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def batch(self, step: int) -> Batch:
        """Samples with a negative come first; the order within a batch carries no information."""
        samples = sorted(self._data.batch(step, self._config.batch_size), key=lambda sample: not sample.negative)
        negatives = [sample.negative for sample in samples if sample.negative]
        tokens = self._model.tokenizer([sample.text for sample in samples] + negatives)
        target, weight = tag_targets(
            [self._ids(sample.tags) for sample in samples],
            [self._ids(sample.neg_tags) for sample in samples],
            len(self._tag_ids),
            self._config.false_tag_weight,
        )
        return Batch(
            torch.stack([fit(sample.image, self._model.image_size) for sample in samples]),
            tokens[: len(samples)],
            tokens[len(samples) :],
            target,
            weight,
        )

    def _ids(self, tags: Sequence[str]) -> list[int]:
        return [self._tag_ids[tag] for tag in tags if tag in self._tag_ids]
