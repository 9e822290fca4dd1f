"""What the tests of training share: a small data set with a teacher's texts, and a run on it that takes seconds."""

from __future__ import annotations

from pathlib import Path

from hqclip.config import CurateConfig, DownloadConfig, TrainConfig
from hqclip.curate.stage import run as curate
from hqclip.data.download import run as download
from hqclip.data.index import read_index
from hqclip.data.shards import write_shard
from hqclip.data.sidecar import write_annotations
from hqclip.records import AnnotatedRow, Annotation, Pool, Sample, Status
from hqclip.store import open_store

TEXTS = Annotation(("ring", "square"), ("cross",), ("a ring", "a square"), ("a cross", "a circle"))


def tiny_run(folder: Path, samples: list[Sample]) -> TrainConfig:
    """Settings for a run of 6 steps on these samples, in a store of its own below `folder`."""
    write_shard(samples, folder / "00000.tar")
    root = str(folder / "store")
    pool = download(DownloadConfig(store=root, shards=str(folder)))["pool"]
    store = open_store(root)
    for entry in Pool.from_json(store.read(pool), pool).shards:
        rows = [AnnotatedRow(uid, Status.OK, TEXTS) for uid in read_index(store, entry).uids]
        write_annotations(store, f"annotations/teacher/{entry.name}.parquet", rows, entry, "teacher")
    dataset = curate(CurateConfig(store=root, pool=pool, annotations="annotations/teacher"))["dataset"]
    return TrainConfig(
        store=root,
        dataset=dataset,
        run="base",
        model="shapes",
        samples_seen=48,
        batch_size=8,
        warmup=2,
        precision="fp32",
        checkpoint_every=3,
        log_every=2,
        threads=1,
    )


def words(config: TrainConfig) -> list[str]:
    """`-m hqclip.cli train --flag=value ...`, for Python or torchrun."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in config.to_mapping().items()]
    return ["-m", "hqclip.cli", "train", *flags]
