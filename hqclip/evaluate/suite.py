"""A suite: images in one webdataset shard and benchmarks that refer to them by uid.

`suite.json` names the shard and the benchmark files beside it; its digest covers all of them, so two
evaluations with the same suite digest can be compared item by item.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.records import Manifest, canonical_json, digest_of
from hqclip.store import Store, open_store, split_uri
from hqclip.store.documents import read_json


@dataclass(frozen=True, kw_only=True)
class SuiteManifest(Manifest):
    """`suite.json`: `images` is a shard, `benchmarks` are JSON files, both beside it."""

    KIND = "suite"
    name: str
    digest: str
    images: str
    benchmarks: tuple[str, ...]


@dataclass(frozen=True)
class Suite:
    """A suite with its benchmarks read; the images stay in `store` under `images`."""

    name: str
    digest: str
    store: Store
    images: str
    benchmarks: tuple[Benchmark, ...]


def write_suite(store: Store, name: str, images: str, benchmarks: Sequence[Benchmark]) -> str:
    """Write benchmark files and then the manifest beside the image shard `images`; the key of the manifest."""
    shard = store.stat(images)
    if shard is None:
        raise DataError(f"{store.uri}/{images} does not exist; write the images of a suite first")
    documents = [{"kind": benchmark.KIND, **asdict(benchmark)} for benchmark in benchmarks]
    for document in documents:
        store.write(f"{document['name']}.json", canonical_json(document))
    digest = digest_of([shard.size, shard.crc32c, documents])
    files = tuple(f"{document['name']}.json" for document in documents)
    store.write("suite.json", SuiteManifest(name=name, digest=digest, images=images, benchmarks=files).to_json())
    return "suite.json"


def read_suite(uri: str) -> Suite:
    """The suite at the URI of its `suite.json`. Raises `NotFoundError`, `DataError`."""
    folder, name = split_uri(uri)
    store = open_store(folder)
    manifest = SuiteManifest.from_json(store.read(name), uri)
    documents = [read_json(store, file, "fetch the suite again") for file in manifest.benchmarks]
    shard = store.stat(manifest.images)
    if shard is None or digest_of([shard.size, shard.crc32c, documents]) != manifest.digest:
        raise DataError(f"{uri}: the images or benchmarks are not those it was made of; fetch the suite again")
    benchmarks = tuple(_benchmark(document, uri) for document in documents)
    return Suite(manifest.name, manifest.digest, store, manifest.images, benchmarks)


def _benchmark(document: dict[str, Any], where: str) -> Benchmark:
    try:
        kind: Callable[..., Benchmark] = KINDS[document["kind"]]
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items() if name != "kind"}
        return kind(**fields)
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{where}: unknown or damaged benchmark ({error!r}); known kinds: {', '.join(KINDS)}"
        ) from error
