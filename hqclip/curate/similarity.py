"""A shard, its texts and a CLIP in, similarities out: how well each text fits its image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from hqclip.clip import ExportedClip
from hqclip.data.images import ImageFault, Pixels, decode
from hqclip.data.index import ShardImages, read_index
from hqclip.data.sidecar import ScoredRow, read_annotations
from hqclip.data.text_choice import is_text
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
    rows = []
    with ShardImages(store, entry, index) as images:
        for start in range(0, entry.rows, batch_size):
            part = range(start, min(start + batch_size, entry.rows))
            readable: list[bool] = []
            embedded = clip.images(_pictures(images, part, readable), batch_size)
            said = [texts[number].annotation for number in part]
            columns = [
                _similarity(clip, embedded, [[index.texts[number]] for number in part]),
                _similarity(clip, embedded, [one.desc if one else () for one in said]),
                _similarity(clip, embedded, [one.neg_desc if one else () for one in said]),
            ]
            for number, is_readable, values in zip(part, readable, zip(*columns, strict=True), strict=True):
                rows.append(ScoredRow(index.uids[number], *(values if is_readable else [float("nan")] * 3)))
    return rows


def _pictures(images: ShardImages, part: Iterable[int], readable: list[bool]) -> Iterator[Pixels]:
    """One after the other, a black one for each that cannot be decoded; `readable` takes down which can."""
    for row in part:
        try:
            pixels = decode(images.read(row))
            readable.append(True)
        except ImageFault:
            pixels = np.zeros((16, 16, 3), np.uint8)
            readable.append(False)
        yield pixels


def _similarity(clip: ExportedClip, image_BD: torch.Tensor, texts: Sequence[Sequence[str]]) -> list[float]:
    """The mean cosine of every image with its texts; NaN for none, and an empty one is none."""
    owned = [(row, text) for row, of_one in enumerate(texts) for text in of_one if is_text(text)]
    flat = [text for _, text in owned]
    text_ND = clip.texts(flat)
    owner = torch.tensor([row for row, _ in owned], dtype=torch.long)
    cosine = (image_BD[owner] * text_ND).sum(1) if flat else torch.empty(0)
    total = torch.zeros(len(texts)).index_add_(0, owner, cosine)
    count = torch.bincount(owner, minlength=len(texts))
    values: list[float] = (total / count).tolist()
    return values
