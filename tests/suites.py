"""What tests of evaluations share: suites of a few drawn pictures."""

from __future__ import annotations

from pathlib import Path

from hqclip.data.shards import write_shard
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.manifest import SetEntry, ShardFile, add_set, digest_of_set
from hqclip.evaluate.suite import document_of
from hqclip.records import Sample, canonical_json
from hqclip.store import Store


def add(store: Store, samples: list[Sample], benchmark: Benchmark) -> None:
    """A set with a shard of its own, or with the one of these samples if it is there."""
    add_sharded(store, [samples], benchmark)


def add_sharded(store: Store, parts: list[list[Sample]], benchmark: Benchmark) -> None:
    """A set with a shard for each part."""
    shards, document = tuple(shard(store, samples) for samples in parts), document_of(benchmark)
    file = f"benchmarks/{benchmark.name}.json"
    store.write(file, canonical_json(document))
    add_set(store, "small", SetEntry(benchmark.name, digest_of_set(shards, document), file, shards))


def shard(store: Store, samples: list[Sample]) -> ShardFile:
    key = f"images/{samples[0].uid}.tar"
    path = Path(store.uri) / key
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_shard(samples, path)
    there = store.stat(key)
    assert there
    return ShardFile(key, there.size, there.crc32c)
