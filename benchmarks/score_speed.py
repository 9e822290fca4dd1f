"""How much of its time `score` spends in the encoders: `OMP_NUM_THREADS=1 python benchmarks/score_speed.py [RUNS]`.

JPEGs of 512 x 384 pixels, each with an alt-text and two times three sentences, models with random weights on the CPU.
In turn, in one process: ViT-B-32's encoders alone, on the batches of pictures and tokens that `score` gives them, and a
shard scored from its tar to its rows. Then the image path of `score` and `evaluate` against a
plain loop that reads, decodes and shrinks one picture after the other and then encodes the batch, with a tower so small
that decoding is most of the work, as it is beside a GPU. Ratios are of the runs of one turn: by the clock, and by the
CPU time of all threads, which other work on the machine hardly touches. Writes the table to score_speed.md.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from hqclip.clip import ExportedClip, fit
from hqclip.config import DownloadConfig
from hqclip.curate.similarity import score_shard
from hqclip.data.download import run as download
from hqclip.data.images import Pixels, decode
from hqclip.data.index import ShardImages, read_index
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, ShardEntry, Status
from hqclip.store import Store, open_store
from hqclip.train.model import HQClip

SCORED, PATHED, DECODERS = 16, 96, 2  # images of a run, of either kind
SENTENCE = "A small dog with brown fur runs across a green field while a child in a red coat looks on from the left"
WORDS = SENTENCE.split()
ALONE, SCORE, PATH, LOOP = "encoders alone", "score", "image path", "one picture after the other"


def shard(folder: Path, num_images: int) -> tuple[Store, ShardEntry]:
    """Smooth noise as JPEGs, annotated with sentences of 6 to 22 words."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(num_images):
        noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
        path = folder / "one.jpg"
        noise.resize((512, 384), Image.Resampling.BICUBIC).save(path, "JPEG", quality=85)
        samples.append(Sample(f"{number:032x}", path.read_bytes(), " ".join(WORDS[: rng.integers(4, 12)])))
    (folder / "web").mkdir()
    write_shard(samples, folder / "web" / "00000.tar")
    store = open_store(str(folder))
    pool = download(DownloadConfig(store=store.uri, shards=str(folder / "web")))["pool"]
    (entry,) = Pool.from_json(store.read(pool), pool).shards
    rows = []
    for sample in samples:
        said = [" ".join(WORDS[: rng.integers(6, len(WORDS) + 1)]) for _ in range(6)]
        rows.append(AnnotatedRow(sample.uid, Status.OK, Annotation((), (), tuple(said[:3]), tuple(said[3:]))))
    write_annotations(store, f"annotations/a/{entry.name}.parquet", rows, entry, "a")
    return store, entry


class Work:
    """What is timed, on one shard and one model."""

    def __init__(self, folder: Path, model: str, num_images: int) -> None:
        folder.mkdir()
        self.num_images, self.batch_size = num_images, num_images // 2
        self.store, self.entry = shard(folder, num_images)
        HQClip(model, [0.5]).export(folder / "model")
        self.clip = ExportedClip(self.store, "model", device="cpu", decode_threads=DECODERS)
        self.size = self.clip._preprocess.size
        self.index = read_index(self.store, self.entry)

    def record(self) -> None:
        """Score once, and keep what the encoders are given."""
        embed, self.given = self.clip._embed, []
        self.clip._embed = lambda encode, rows: (self.given.append((encode, rows)), embed(encode, rows))[1]
        self.score()
        self.clip._embed = embed

    def encoders(self) -> None:
        for encode, rows in self.given:
            self.clip._embed(encode, rows)

    def score(self) -> None:
        score_shard(self.store, self.entry, "annotations/a", self.clip, self.batch_size)

    def path(self) -> None:
        with ShardImages(self.store, self.entry, self.index) as images:
            self.clip.images((partial(_picture, images, row) for row in range(self.num_images)), self.batch_size)

    def loop(self) -> None:
        clip = self.clip
        with ShardImages(self.store, self.entry, self.index) as images:
            for start in range(0, self.num_images, self.batch_size):
                rows = range(start, start + self.batch_size)
                clip._embed(clip._encode_images, torch.stack([fit(_picture(images, row), self.size) for row in rows]))


def _picture(images: ShardImages, row: int) -> Pixels:
    return decode(images.read(row))


class Rate(NamedTuple):
    """Images a second of the clock, and of CPU time."""

    clock: float
    cpu: float


def rates(runs: int) -> dict[str, list[Rate]]:
    """A figure for each turn; the first turn is left out: it warms up."""
    with tempfile.TemporaryDirectory() as folder:
        scored = Work(Path(folder) / "scored", "ViT-B-32", SCORED)
        scored.record()
        pathed = Work(Path(folder) / "pathed", "shapes", PATHED)
        doing: dict[str, tuple[Callable[[], None], int]] = {
            ALONE: (scored.encoders, SCORED),
            SCORE: (scored.score, SCORED),
            PATH: (pathed.path, PATHED),
            LOOP: (pathed.loop, PATHED),
        }
        found: dict[str, list[Rate]] = {name: [] for name in doing}
        for _ in range(runs + 1):
            for name, (run, number) in doing.items():
                start, cpu = time.perf_counter(), time.process_time()
                run()
                found[name].append(Rate(number / (time.perf_counter() - start), number / (time.process_time() - cpu)))
    return {name: measured[1:] for name, measured in found.items()}


def _ratio(above: list[Rate], below: list[Rate]) -> str:
    by_clock, by_cpu = (
        [one[kind] / other[kind] for one, other in zip(above, below, strict=True)] for kind in range(len(Rate._fields))
    )
    return f"{_spread(by_cpu)} by CPU time, {_spread(by_clock)} by the clock"


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main(runs: str = "5") -> None:
    """Measure, and write the table."""
    found = rates(int(runs))
    lines = [
        "# How much of its time `score` spends in the encoders",
        "",
        f"`OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', '')} python benchmarks/score_speed.py {runs}`: JPEGs of "
        f"512 x 384 pixels, {SCORED} with {7 * SCORED} texts for ViT-B-32 and {PATHED} for a tiny tower, fp32, "
        f"{DECODERS} decode threads, torch {torch.__version__} with {torch.get_num_threads()} thread(s), Python "
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} shared CPU cores with other work on "
        f"them: the figures are noisy, the ratios of one turn less so. {runs} turns after one to warm up.",
        "",
        "| images/s | of CPU time | of the clock | slowest | fastest |",
        "|---|---|---|---|---|",
    ]
    for name, measured in found.items():
        clock, cpu = [rate.clock for rate in measured], statistics.median(rate.cpu for rate in measured)
        lines.append(f"| {name} | {cpu:.1f} | {statistics.median(clock):.1f} | {min(clock):.1f} | {max(clock):.1f} |")
    lines += [
        "",
        f"`score` against the encoders alone: {_ratio(found[SCORE], found[ALONE])}. "
        f"The image path against one picture after the other: {_ratio(found[PATH], found[LOOP])}.",
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
