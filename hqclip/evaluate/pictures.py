"""Sets that share shards and a model in, the embedding of every image of theirs out.

Ranks embed whole batches in turn, so that an image is embedded beside the same others as on one rank alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from typing import BinaryIO

import torch
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.shards import Row
from hqclip.errors import DataError
from hqclip.evaluate.suite import Suite, shards_of
from hqclip.ranks import Ranks


def embed_images(
    clip: ExportedClip,
    suite: Suite,
    batch_size: int,
    advance: Callable[[int], None],
    only: Collection[str] | None,
    ranks: Ranks,
) -> dict[str, Tensor]:
    """Every image of the suite, by uid, or those of `only`, on rank 0; none on the others.

    Batches end with their shard, so what an image is embedded with depends on no other set. `advance` hears how many
    more there are, as far as this rank can tell. Raises `DataError` for a damaged shard or image, or a missing one.
    """
    batches: list[list[str]] = []  # uids; number n is that of rank n % world_size

    def own() -> Tensor:
        parts: list[Tensor] = []
        for shard in shards_of(suite):
            rows = [row for row in shard.rows if only is None or row.uid in only]
            mine = _share(rows, batch_size, ranks, batches)
            left = len(rows)
            with shard.path.open("rb") as file:
                for image_BD in clip.image_batches(
                    (partial(_picture, file, row, shard.where) for row in mine), batch_size
                ):
                    parts.append(image_BD)
                    more = min(left, ranks.world_size * len(image_BD))  # the others are about as far
                    advance(more)
                    left -= more
            advance(left)
        return torch.cat(parts) if parts else torch.empty(0, 1)

    by_rank = [iter(rows_ND) for rows_ND in ranks.group.rows_on_rank_zero(ranks.rank, ranks.on_all_ranks(own))]
    embedded: dict[str, Tensor] = {}
    for number, uids in enumerate(batches if by_rank else ()):
        embedded |= zip(uids, islice(by_rank[number % len(by_rank)], len(uids)), strict=True)
    return embedded


def _share(rows: Sequence[Row], batch_size: int, ranks: Ranks, batches: list[list[str]]) -> list[Row]:
    """The rows of a shard that this rank embeds; `batches` gets those of all ranks."""
    own: list[Row] = []
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        if len(batches) % ranks.world_size == ranks.rank:
            own += batch
        batches.append([row.uid for row in batch])
    return own


def _picture(shard: BinaryIO, row: Row, where: str) -> Pixels:
    try:  # pread: threads share the file, but no place in it
        return decode(os.pread(shard.fileno(), row.image_size, row.image_offset))
    except ImageFault as fault:
        raise DataError(f"{where}, image {row.uid}: {fault}; mend the suite") from fault
