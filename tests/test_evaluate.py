"""What stands between a model and its score: a suite whose pictures are all there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from hqclip.clip import ExportedClip
from hqclip.data.images import Pixels
from hqclip.data.shards import write_shard
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.manifest import ShardFile
from hqclip.evaluate.pictures import embed_images
from hqclip.evaluate.suite import Suite, SuiteSet
from hqclip.records import Sample
from hqclip.store import open_store
from tests.clips import ALONE


class MeanColour:
    """A model that sees nothing but the mean of each colour."""

    def image_batches(self, images: Iterable[Callable[[], Pixels]], batch_size: int) -> Iterator[torch.Tensor]:
        for image in images:
            yield torch.tensor(image().mean((0, 1)))[None]


def embed(folder: Path) -> dict[str, Any]:
    store = open_store(str(folder))
    images = store.stat("images.tar")
    assert images
    everything = cast(Benchmark, SimpleNamespace(name="all", uids=()))
    shard = ShardFile("images.tar", images.size, images.crc32c)
    suite = Suite("shapes", "0" * 16, store, (SuiteSet(everything, "", (shard,)),))
    return embed_images(cast(ExportedClip, MeanColour()), suite, 4, lambda more: None, None, ALONE)


@pytest.fixture
def samples(draw_samples: Callable[..., list[Sample]]) -> list[Sample]:
    return draw_samples(5)


def test_every_picture_of_a_suite_is_seen(samples: list[Sample], tmp_path: Path):
    write_shard(samples, tmp_path / "images.tar")
    assert list(embed(tmp_path)) == [sample.uid for sample in samples]


def test_a_suite_that_is_cut_is_not_scored(samples: list[Sample], tmp_path: Path):
    write_shard(samples, tmp_path / "images.tar")
    path = tmp_path / "images.tar"
    path.write_bytes(path.read_bytes()[:8192])
    with pytest.raises(DataError, match=r"images.tar: cut at byte 8192: .*; fetch the suite again"):
        embed(tmp_path)


def test_a_picture_of_a_suite_that_cannot_be_read_is_named(samples: list[Sample], tmp_path: Path):
    samples[3] = replace(samples[3], image=samples[3].image[:900])
    write_shard(samples, tmp_path / "images.tar")
    with pytest.raises(DataError, match=rf"images.tar, image {samples[3].uid}: damaged_image"):
        embed(tmp_path)
