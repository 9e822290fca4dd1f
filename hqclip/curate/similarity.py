"""A shard, its texts and a CLIP in, similarities out: how well each text fits its image."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch

from hqclip.clip import ExportedClip
from hqclip.data.captions import is_text
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import ShardImages, read_index
from hqclip.data.sidecar import ScoredRow, read_annotations
from hqclip.records import ShardEntry
from hqclip.store import Store


def score_shard(
    store: Store, entry: ShardEntry, annotations: str, clip: ExportedClip, batch_size: int
) -> list[ScoredRow]:
    """One row a sample: cosine with the alt-text, and the means over its sentences and over their contradictions.

    NaN where there is no such text or no readable image.
    """
    index = read_index(store, entry)
    texts = read_annotations(store, f"{annotations}/{entry.name}.parquet", entry)
    readable = np.ones(entry.rows, bool)
    rows = []
    with ShardImages(store, entry, index) as images:
        pictures = (partial(_picture, images, row, readable) for row in range(entry.rows))
        for start, image_BD in zip(count(0, batch_size), clip.image_batches(pictures, batch_size)):
            part = range(start, start + len(image_BD))
            said = [texts[number].annotation for number in part]
            columns = [
                _similarity(clip, image_BD, [[index.texts[number]] for number in part]),
                _similarity(clip, image_BD, [one.desc if one else () for one in said]),
                _similarity(clip, image_BD, [one.neg_desc if one else () for one in said]),
            ]
            for number, values in zip(part, zip(*columns, strict=True), strict=True):
                rows.append(ScoredRow(index.uids[number], *(values if readable[number] else [float("nan")] * 3)))
    return rows


def _picture(images: ShardImages, row: int, readable: np.ndarray[Any, np.dtype[np.bool_]]) -> Pixels:
    """A black one if it cannot be decoded, which `readable` takes down."""
    try:
        return decode(images.read(row))
    except ImageFault:
        readable[row] = False
        return np.zeros((16, 16, 3), np.uint8)


def _similarity(clip: ExportedClip, image_BD: torch.Tensor, texts: Sequence[Sequence[str]]) -> list[float]:
    """The mean cosine of every image with its texts; NaN for none, and an empty one is none."""
    owned = [(row, text) for row, of_one in enumerate(texts) for text in of_one if is_text(text)]
    flat = [text for _, text in owned]
    text_ND = clip.texts(flat)
    owner = torch.tensor([row for row, _ in owned], dtype=torch.long)
    cosine = (image_BD[owner] * text_ND).sum(1) if flat else torch.empty(0)
    total = torch.zeros(len(texts)).index_add_(0, owner, cosine)
    number = torch.bincount(owner, minlength=len(texts))
    values: list[float] = (total / number).tolist()
    return values
