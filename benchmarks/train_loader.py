"""What the training loader reads and how fast it decodes: `OMP_NUM_THREADS=1 python benchmarks/train_loader.py [RUNS]`.

Reading: how much of a data set one rank opens in an epoch, and how often all ranks together read it, reckoned for
128 shards of 10,000 samples and 4,096 samples a step; a shard is opened whole. For comparison, what it would be if
each rank took a run of the shuffled order instead of a run of every block. Decoding: the samples a second that one
rank prepares, from a folder with JPEGs of 512 x 384 pixels to the batches of ViT-B-32, with 1 and 2 decode threads in
turn, in one process. Writes the table to train_loader.md.
"""

from __future__ import annotations

import io
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hqclip.config import DownloadConfig, TrainConfig
from hqclip.data.dataset import DatasetShard
from hqclip.data.download import run as download
from hqclip.data.loader import TrainingSet
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import CuratedRow, write_curated
from hqclip.data.text_choice import TextPolicy
from hqclip.ranks import GlooGroup, Ranks
from hqclip.records import Annotation, Pool, Sample, Status
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from hqclip.train.batches import Batches
from hqclip.train.model import HQClip

SHARDS, ROWS, BATCH = 128, 10_000, 4096
SAMPLES, SHARE, STEPS = 512, 64, 8  # what decoding is timed with: pictures, samples a step, steps a run
POLICY = TextPolicy(0.75, 3, seed=0)
TEXT = "A small dog with brown fur runs across a green field while a child in a red coat looks on from the left"


def opened(world: int) -> tuple[list[int], list[int]]:
    """How many shards each rank opens in an epoch: as it is, and with runs of the shuffled order."""
    shards = tuple(DatasetShard(f"{n}.tar", "", 1, 0, ROWS, "", 0, "", ROWS) for n in range(SHARDS))
    data, size = TrainingSet(LocalStore(Path()), shards, POLICY), BATCH // world
    own: list[set[int]] = [set() for _ in range(world)]
    shuffled: list[set[int]] = [set() for _ in range(world)]
    for step in range(SHARDS * ROWS // BATCH):
        runs = data.sampler.places(step * BATCH, (step + 1) * BATCH).shards.reshape(world, size)
        for rank in range(world):
            own[rank].update(data.sampler.part(step, BATCH, rank, world)[1].tolist())
            shuffled[rank].update(runs[rank].tolist())
    return [len(each) for each in own], [len(each) for each in shuffled]


def pictures(folder: Path) -> TrainingSet:
    """Smooth noise as JPEGs, two shards of them, every one with a description and its contradiction."""
    rng = np.random.default_rng(0)
    (folder / "web").mkdir()
    for shard in range(2):
        samples = []
        for number in range(SAMPLES // 2):
            noise = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
            buffer = io.BytesIO()
            noise.resize((512, 384), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=85)
            samples.append(Sample(f"{shard * SAMPLES + number:032x}", buffer.getvalue(), TEXT))
        write_shard(samples, folder / "web" / f"{shard:05d}.tar")
    pool = download(DownloadConfig(store=str(folder), shards=str(folder / "web")))["pool"]
    store, shards = open_store(str(folder)), []
    for entry in Pool.from_json(store.read(pool), pool).shards:
        texts = Annotation(("dog",), ("cat",), (TEXT,), (TEXT.replace("dog", "cat"),))
        rows = [CuratedRow(f"{n:032x}", Status.OK, texts) for n in range(entry.rows)]
        write_curated(store, f"{entry.name}.parquet", rows, entry, "bench")
        shards.append(DatasetShard(*vars(entry).values(), f"{entry.name}.parquet", 0, "", entry.rows))
    return TrainingSet(store, tuple(shards), POLICY)


def rates(runs: int) -> dict[int, list[float]]:
    """Samples a second with so many threads, a figure for each run; the first of each is left out: it warms up."""
    model, found = HQClip("ViT-B-32", [0.5]), {threads: list[float]() for threads in (1, 2)}
    with tempfile.TemporaryDirectory() as folder:
        data = pictures(Path(folder))
        for _ in range(runs + 1):
            for threads, measured in found.items():
                config = TrainConfig(
                    store=folder, dataset="none", run="bench", batch_size=SHARE, decode_threads=threads
                )
                batches = Batches(data, model, ["dog"], config, Ranks(0, 1, torch.device("cpu"), GlooGroup(1)))
                start = time.perf_counter()
                count = sum(len(batch.text_BL) for batch in batches.prefetch(0, STEPS))
                measured.append(count / (time.perf_counter() - start))
    return {threads: measured[1:] for threads, measured in found.items()}


def main(runs: str = "7") -> None:
    """Measure, and write the table."""
    lines = [
        "# What the training loader reads, and how fast it decodes",
        "",
        f"`OMP_NUM_THREADS=1 python benchmarks/train_loader.py {runs}`. Reading, one epoch of {SHARDS} shards of "
        f"{ROWS:,} samples, {BATCH:,} samples a step, reckoned:",
        "",
        "| ranks | a rank opens of the data set: mean | most | all ranks together read it "
        "| if runs were of the shuffled order |",
        "|---|---|---|---|---|",
    ]
    for world in (1, 8, 64):
        own, shuffled = opened(world)
        lines.append(
            f"| {world} | {statistics.mean(own) / SHARDS:.1%} | {max(own) / SHARDS:.1%} "
            f"| {sum(own) / SHARDS:.1f} times | {sum(shuffled) / SHARDS:.1f} times |"
        )
    measured = rates(int(runs))
    ratios = [two / one for one, two in zip(measured[1], measured[2], strict=True)]
    lines += [
        "",
        "Decoding, JPEGs of 512 x 384 pixels for ViT-B-32, with texts and tokens, Python "
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} shared CPU cores with other work "
        f"on them, {runs} runs in turn after one to warm up:",
        "",
        "| one rank, samples/s | median | slowest | fastest |",
        "|---|---|---|---|",
    ]
    for threads, found in measured.items():
        name = f"{threads} decode thread{'s' * (threads > 1)}"
        lines.append(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} | {max(found):,.0f} |")
    lines += ["", f"Two threads against one: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})."]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
