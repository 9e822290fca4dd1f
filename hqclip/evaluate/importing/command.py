"""A published set in, the same set in a suite out. What is there already is not written again.

The images come first, then the benchmark, each named by its content, and `suite.json` last.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any, cast

from hqclip.errors import ConfigError, DataError
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.datacomp import task_of
from hqclip.evaluate.importing.packing import pack
from hqclip.evaluate.importing.registry import LAYOUTS
from hqclip.evaluate.importing.source import Source
from hqclip.evaluate.manifest import NAME, Origin, SetEntry, add_set, digest_of_set
from hqclip.evaluate.suite import check, document_of, read_suite
from hqclip.records import canonical_json
from hqclip.store import open_store


def run(config: SuiteImportConfig) -> dict[str, Any]:
    """Add the set to the suite. Raises `DataError`, `NotFoundError` or `ConflictError`."""
    start = time.monotonic()
    store = open_store(suite_folder(config.suite))
    source = Source(config)
    layout = LAYOUTS[config.layout](source)
    shards, uids = pack(store, layout.pictures(), source)
    if not uids:
        raise DataError(f"{config.source} has no item that can be used{_reasons(source)}; nothing was imported")
    benchmark = _with_main(layout.benchmark(config.name, uids), config.main)
    check(benchmark, config.source)
    document = document_of(benchmark)
    digest = digest_of_set(shards, document)
    file = f"benchmarks/{digest}.json"
    store.write(file, canonical_json(document))
    left_out = dict(sorted(source.left_out.items()))
    origin = Origin(config.layout, config.source, source.sha256(), config.licence, config.limit, left_out)
    entry = SetEntry(config.name, digest, file, shards, origin)
    before = None
    if store.exists(NAME):
        there = read_suite(f"{store.uri}/{NAME}", quick=True)
        before = [there.entry(one) for one in there.sets]
    added = add_set(store, store.uri.rpartition("/")[2], entry, before)
    return {
        "suite": f"{store.uri}/{NAME}",
        "name": config.name,
        "kind": benchmark.KIND,
        "digest": digest,
        "images": len(uids),
        "items": len(benchmark.uids),
        "shards": len(shards),
        "left_out": dict(source.left_out),
        "already_done": not added,
        "seconds": time.monotonic() - start,
    }


def _with_main(benchmark: Any, main: str) -> Benchmark:
    """The benchmark with a main metric of choice, by default that of DataComp's task of this name.

    Raises `ConfigError` for a kind that leaves no choice.
    """
    task = task_of(benchmark.name)
    if not main and task and task.kind == benchmark.KIND:
        main = task.main
    if not main:
        return cast(Benchmark, benchmark)
    if not hasattr(benchmark, "main"):
        raise ConfigError(f"main is {main!r}, but a {benchmark.KIND} has one main metric only; leave it out")
    return cast(Benchmark, dataclasses.replace(benchmark, main=main))


def suite_folder(uri: str) -> str:
    """Where a suite lies, of its folder or of its `suite.json`."""
    return uri.removesuffix(NAME).rstrip("/") or ("/" if uri.startswith("/") else ".")


def _reasons(source: Source) -> str:
    told = ", ".join(f"{count} {reason}" for reason, count in source.left_out.items())
    return f" (left out: {told})" if told else ""
