"""How well texts fit their images, with a model that sees nothing but brightness."""

from __future__ import annotations

import math
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch

from hqclip.clip import ExportedClip
from hqclip.config import DownloadConfig
from hqclip.curate.similarity import score_shard
from hqclip.data.download import run as download
from hqclip.data.images import Pixels
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, ShardEntry, Status
from hqclip.store import Store, open_store


class Brightness:
    """Embeds an image as its brightness, a text as 1; knows how many images it was given that are still held."""

    def __init__(self) -> None:
        self.most_held = 0

    def images(self, images: Iterable[Pixels], batch_size: int) -> torch.Tensor:
        given: list[weakref.ref[Pixels]] = []
        means = []
        for image in images:
            given.append(weakref.ref(image))
            means.append([float(image.mean())])
            del image
            self.most_held = max(self.most_held, sum(one() is not None for one in given))
        return torch.tensor(means)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        return torch.ones(len(texts), 1)


@pytest.fixture
def shard(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> tuple[Store, ShardEntry]:
    """Ten annotated samples; the picture of the third is cut off."""
    samples = draw_samples(10)
    samples[2] = replace(samples[2], image=samples[2].image[:900])
    write_shard(samples, tmp_path / "00000.tar")
    store = open_store(str(tmp_path / "store"))
    pool = download(DownloadConfig(store=store.uri, shards=str(tmp_path / "00000.tar")))["pool"]
    (entry,) = Pool.from_json(store.read(pool), pool).shards
    said = Annotation(("a tag",), ("no tag",), ("A text.",), ("A false one.",))
    rows = [AnnotatedRow(sample.uid, Status.OK, said) for sample in samples]
    write_annotations(store, f"annotations/a/{entry.name}.parquet", rows, entry, "a")
    return store, entry


def test_a_picture_that_cannot_be_decoded_has_no_score_and_costs_no_other(shard: tuple[Store, ShardEntry]):
    store, entry = shard
    rows = score_shard(store, entry, "annotations/a", cast(ExportedClip, Brightness()), 4)
    alt = [vars(row) for row in rows]
    missing = [all(math.isnan(v) for v in values.values() if isinstance(v, float)) for values in alt]
    assert missing == [number == 2 for number in range(10)]


def test_no_more_pictures_than_one_are_held_at_their_full_size(shard: tuple[Store, ShardEntry]):
    store, entry = shard
    clip = Brightness()
    score_shard(store, entry, "annotations/a", cast(ExportedClip, clip), 8)
    assert clip.most_held <= 2


def test_that_there_is_no_champion_is_said_without_torch():
    """In the first cycle, also where the task is one that only waits for jobs."""
    code = (
        "import sys; from hqclip.stages import STAGES, run_stage; kind = STAGES['score'].settings;"
        "print(run_stage('score', kind(store='gs://nowhere/x', pool='p', annotations='a', champion=''))['reason']);"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no champion yet: the first cycle trains on unscored data\nset()\n"
