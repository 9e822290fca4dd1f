"""Shards, texts and the champion in, similarity columns out."""

from __future__ import annotations

import time
from typing import Any

from hqclip.config import ScoreConfig
from hqclip.gpu import gpu_work, meter_of
from hqclip.progress import Progress
from hqclip.records import Pool
from hqclip.store import Store, open_store

NOTHING = {"scores": "", "num_shards": 0, "already_done": 0}


def run(config: ScoreConfig) -> dict[str, Any]:
    """Write one score sidecar a shard; without a champion there is nothing to do, and it says so.

    That is said in an image without torch, too.
    """
    if not config.champion:
        return {**NOTHING, "reason": "no champion yet: the first cycle trains on unscored data"}
    store = open_store(config.store)
    return _score(store, config, Pool.from_json(store.read(config.pool), config.pool))


def _score(store: Store, config: ScoreConfig, pool: Pool) -> dict[str, Any]:
    """What the champion says of every shard that it has not judged yet."""
    from hqclip.clip import ExportedClip
    from hqclip.curate.similarity import score_shard
    from hqclip.data.sidecar import write_scores

    clip = ExportedClip(store, config.champion, config.threads, config.device, config.decode_threads)
    folder = f"scores/{clip.digest}-{config.annotations.rpartition('/')[2]}"
    missing = [entry for entry in pool.shards if not store.exists(f"{folder}/{entry.name}.parquet")]
    rows_to_do = sum(entry.rows for entry in missing)
    start, meter = time.monotonic(), meter_of(clip.device.place)
    with Progress("score", rows_to_do, "images") as progress:
        for entry in missing:
            rows = score_shard(store, entry, config.annotations, clip, config.batch_size)
            write_scores(store, f"{folder}/{entry.name}.parquet", rows, entry, clip.digest)
            progress.advance(entry.rows)
    seconds = time.monotonic() - start
    return {
        "scores": folder,
        "score_model": clip.digest,
        "device": str(clip.device),
        "num_shards": len(pool.shards),
        "already_done": len(pool.shards) - len(missing),
        "seconds": seconds,
        **gpu_work(meter, seconds, rows_to_do),
    }
