"""A pool of shards in, one annotation sidecar a shard out: four texts for every image, or the name of the fault."""

from __future__ import annotations

import asyncio
import functools
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hqclip.annotate.annotator import Annotator
from hqclip.annotate.cost import priced
from hqclip.annotate.total_work import total_work
from hqclip.annotate.worker import Worker
from hqclip.config import AnnotateConfig
from hqclip.data.sidecar import Tally, read_tally
from hqclip.errors import DataError
from hqclip.provenance import made_by
from hqclip.records import Pool, Status
from hqclip.store import Store, open_store


def run(config: AnnotateConfig) -> dict[str, Any]:
    """Annotate every shard of the pool that has no sidecar yet; fail if too many samples have no usable texts.

    Raises `TerminatedError` on SIGTERM, with everything that was finished kept.
    """
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    annotator = Annotator.of(config)
    provenance = made_by("annotate", config.to_mapping(), [config.pool], lvlm=annotator.lvlm)
    folder = annotator.write(store, provenance)
    done = {key.rpartition("/")[2].removesuffix(".parquet") for key in _sidecars(store, folder)}
    missing = [entry for entry in pool.shards if entry.name not in done]
    start = time.monotonic()
    if missing:
        asyncio.run(Worker(config, store, annotator, folder, missing).run())
    _tidy(store, folder, {entry.name for entry in pool.shards})
    tally = _tally(store, folder, pool, annotator.digest)
    _refuse_too_many_faults(tally, config.max_fault_rate, folder)
    work = total_work(store, folder)
    return {
        "annotations": folder,
        "annotator": annotator.digest,
        "rows": tally.rows,
        "statuses": dict(tally.statuses),
        "prompt_tokens": tally.prompt_tokens,
        "output_tokens": tally.output_tokens,
        "retried": tally.retried,
        "num_shards": len(pool.shards),
        "already_done": len(pool.shards) - len(missing),
        "seconds": time.monotonic() - start,
        "work": {**work, **priced(work, config.gpu_prices)},
        "provenance": provenance,
    }


def _sidecars(store: Store, folder: str) -> list[str]:
    return [
        key for key in store.list(f"{folder}/") if key.endswith(".parquet") and key.count("/") == folder.count("/") + 1
    ]


def _tidy(store: Store, folder: str, finished: set[str]) -> None:
    """Delete the parts of shards that were finished by a process that died before it could."""
    for key in list(store.list(f"{folder}/parts/")):
        if key.split("/")[-2] in finished:
            store.delete(key)


def _tally(store: Store, folder: str, pool: Pool, digest: str) -> Tally:
    """All sidecars added up, by their footers."""
    keys = [f"{folder}/{entry.name}.parquet" for entry in pool.shards]
    with ThreadPoolExecutor(16) as readers:
        tallies = readers.map(lambda key: read_tally(store, key, digest), keys)
        return functools.reduce(Tally.__add__, tallies, Tally({}))


def _refuse_too_many_faults(tally: Tally, limit: float, folder: str) -> None:
    faults = tally.rows - tally.statuses.get(Status.OK, 0)
    if faults > limit * tally.rows:
        common = sorted(((n, name) for name, n in tally.statuses.items() if name != Status.OK), reverse=True)[:3]
        reasons = ", ".join(f"{name} {number}" for number, name in common)
        raise DataError(
            f"{folder}: {faults} of {tally.rows} samples have no usable texts ({reasons}), more than {limit:.1%}; "
            "look at the prompt and the model, or allow more with --max-fault-rate"
        )
