"""How well texts fit their image: every text that there is, and none that there is not."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch

from hqclip.clip import ExportedClip
from hqclip.config import DownloadConfig
from hqclip.curate.similarity import score_shard
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, Status
from hqclip.store import open_store


class Lengths:
    """A text is as near to every image as it is long, in tenths; remembers what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def image_batches(self, images: Iterable[Any], batch_size: int) -> Iterator[torch.Tensor]:
        return iter(torch.ones(len(list(images)), 1).split(batch_size))

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        self.asked += texts
        return torch.tensor([[len(text) / 10] for text in texts]).reshape(-1, 1)


def test_what_is_not_said_is_not_scored(tmp_path: Path, draw_samples: Callable[..., list[Sample]]):
    samples = [replace(one, text=text) for one, text in zip(draw_samples(4), ("a", "", "abc", ""), strict=True)]
    write_shard(samples, tmp_path / "0.tar")
    store = open_store(str(tmp_path / "store"))
    pool = download(DownloadConfig(store=store.uri, shards=str(tmp_path)))["pool"]
    (entry,) = Pool.from_json(store.read(pool), pool).shards
    said = [
        Annotation((), (), ("ab", "", " "), ("abcd", "")),
        Annotation((), (), ("ab", "abcd"), ()),
        Annotation((), (), ("",), (" ",)),
        None,
    ]
    rows = [
        AnnotatedRow(sample.uid, Status.OK if one else Status.REFUSED, one)
        for sample, one in zip(samples, said, strict=True)
    ]
    write_annotations(store, "annotations/a/0.parquet", rows, entry, "a")
    clip = Lengths()
    found = score_shard(store, entry, "annotations/a", cast(ExportedClip, clip), 3)
    scores = [[getattr(row, name) for name in ("sim_text", "sim_desc", "sim_neg_desc")] for row in found]
    assert [[None if math.isnan(value) else round(value, 6) for value in row] for row in scores] == [
        [0.1, 0.2, 0.4],
        [None, 0.3, None],
        [0.3, None, None],
        [None, None, None],
    ]
    assert all(text.strip() for text in clip.asked)
