"""Sets that share shards and a model in, the embedding of every image of theirs out."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from itertools import islice
from typing import BinaryIO

from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.evaluate.suite import Suite, shards_of


def embed_images(
    clip: ExportedClip,
    suite: Suite,
    batch_size: int,
    advance: Callable[[int], None],
    only: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Every image of the suite, by uid, or those of `only`; `advance` hears how many more there are.

    Batches end with their shard, so what an image is embedded with depends on no other set. Raises `DataError` for a
    damaged shard or image, or a missing one.
    """
    embedded: dict[str, Tensor] = {}
    for shard in shards_of(suite):
        rows = [row for row in shard.rows if only is None or row.uid in only]
        with shard.path.open("rb") as file:
            pictures = (partial(_picture, file, row, shard.where) for row in rows)
            names = (row.uid for row in rows)
            for image_BD in clip.image_batches(pictures, batch_size):
                embedded |= zip(islice(names, len(image_BD)), image_BD, strict=True)
                advance(len(image_BD))
    return embedded


def _picture(shard: BinaryIO, row: Row, where: str) -> Pixels:
    try:  # pread: threads share the file, but no place in it
        return decode(os.pread(shard.fileno(), row.image_size, row.image_offset))
    except ImageFault as fault:
        raise DataError(f"{where}, image {row.uid}: {fault}; mend the suite") from fault
