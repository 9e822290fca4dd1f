"""How well texts fit their images, with a model that sees nothing but brightness."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import open_clip
import pytest
import torch
from torch.nn.functional import normalize

from hqclip.clip import ExportedClip, encode_text, fit, normalise
from hqclip.config import DownloadConfig
from hqclip.curate.similarity import score_shard
from hqclip.data.download import run as download
from hqclip.data.images import Pixels, decode
from hqclip.data.index import ShardImages, read_index
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, ShardEntry, Status
from hqclip.store import Store, open_store
from tests.clips import COLOURS, write_clip


class Brightness:
    """Embeds an image as its brightness, a text as 1."""

    def image_batches(self, images: Iterable[Callable[[], Pixels]], batch_size: int) -> Iterator[torch.Tensor]:
        means = [[float(image().mean())] for image in images]
        for start in range(0, len(means), batch_size):
            yield torch.tensor(means[start : start + batch_size])

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


def test_that_there_is_no_champion_is_said_without_torch():
    """In the first cycle, also where the task is one that only waits for jobs."""
    code = (
        "import sys; from hqclip.stages import STAGES, run_stage; kind = STAGES['score'].settings;"
        "print(run_stage('score', kind(store='gs://nowhere/x', pool='p', annotations='a', champion=''))['reason']);"
        "print({'torch', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "no champion yet: the first cycle trains on unscored data\nset()\n"


def test_scores_are_those_of_the_plainest_code_bit_for_bit(shard: tuple[Store, ShardEntry], tmp_path: Path):
    """A batch after the other, each picture decoded in its turn, each column of texts by itself."""
    store, entry = shard
    write_clip(tmp_path / "store" / "m")
    rows = score_shard(store, entry, "annotations/a", ExportedClip(store, "m", device="cpu", decode_threads=3), 4)
    stock = open_clip.create_model(f"local-dir:{tmp_path / 'store' / 'm'}").eval()
    mean, std = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    index, tokenize = read_index(store, entry), open_clip.get_tokenizer("ViT-B-32")
    with ShardImages(store, entry, index) as images, torch.inference_mode():
        for start in range(0, 10, 4):
            part = range(start, min(start + 4, 10))
            black = np.zeros((16, 16, 3), np.uint8)
            pixels = [fit(black if row == 2 else decode(images.read(row)), (32, 32)) for row in part]
            image_BD = normalize(stock.encode_image(normalise(torch.stack(pixels), mean, std)), dim=-1)
            columns = [[index.texts[row] for row in part], ["A text."] * len(part), ["A false one."] * len(part)]
            said = [normalize(encode_text(stock, tokenize(column)), dim=-1) for column in columns]
            expected = [(image_BD * text_BD).sum(1).tolist() for text_BD in said]
            for place, row in enumerate(part):
                found = [rows[row].sim_text, rows[row].sim_desc, rows[row].sim_neg_desc]
                assert row == 2 or found == [column[place] for column in expected]
    assert math.isnan(rows[2].sim_text)
