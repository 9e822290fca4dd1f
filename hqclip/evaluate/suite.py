"""A suite: images in one webdataset shard and benchmarks that refer to them by uid.

`suite.json` names the shard and the benchmark files beside it; its digest covers all of them, so two
evaluations with the same suite digest can be compared item by item. What a benchmark says is checked when it is written
and when it is read: a slip in it would become a false number.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.records import Manifest, canonical_json, digest_of
from hqclip.settings import did_you_mean
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder

if TYPE_CHECKING:
    from hqclip.data.shards import ShardScan


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
    """Write benchmark files and then the manifest beside the image shard `images`; the key of the manifest.

    Raises `DataError` for a benchmark that cannot be scored, or that asks for images which are not in the shard.
    """
    shard = store.stat(images)
    if shard is None:
        raise DataError(f"{store.uri}/{images} does not exist; write the images of a suite first")
    documents = [_written(benchmark) for benchmark in benchmarks]
    files = tuple(f"{document['name']}.json" for document in documents)
    for file, benchmark in zip(files, benchmarks, strict=True):
        _check(benchmark, f"{store.uri}/{file}")
    _check_names([benchmark.name for benchmark in benchmarks], f"{store.uri}/suite.json")
    digest = digest_of([shard.size, shard.crc32c, documents])
    with images_of(Suite(name, digest, store, images, tuple(benchmarks))):
        pass  # all of them are there
    for file, document in zip(files, documents, strict=True):
        store.write(file, canonical_json(document))
    store.write("suite.json", SuiteManifest(name=name, digest=digest, images=images, benchmarks=files).to_json())
    return "suite.json"


def read_suite(uri: str) -> Suite:
    """The suite at the URI of its `suite.json`. Raises `NotFoundError`, `DataError`.

    Its images are not read, only compared by size and checksum; `images_of` reads them.
    """
    folder, name = split_uri(uri)
    store = open_store(folder)
    manifest = SuiteManifest.from_json(store.read(name), uri)
    if not isinstance(manifest.benchmarks, list) or not all(isinstance(file, str) for file in manifest.benchmarks):
        raise DataError(f"{uri}: benchmarks is {manifest.benchmarks!r}; give a list of file names")
    documents = [_document(store, file) for file in manifest.benchmarks]
    shard = store.stat(str(manifest.images))
    if shard is None or digest_of([shard.size, shard.crc32c, documents]) != manifest.digest:
        raise DataError(f"{uri}: the images or benchmarks are not those it was made of; fetch the suite again")
    benchmarks = [
        _benchmark(document, f"{store.uri}/{file}")
        for file, document in zip(manifest.benchmarks, documents, strict=True)
    ]
    _check_names([benchmark.name for benchmark in benchmarks], uri)
    return Suite(manifest.name, manifest.digest, store, manifest.images, tuple(benchmarks))


@contextmanager
def images_of(suite: Suite) -> Iterator[tuple[Path, ShardScan]]:
    """The shard of images as a local file, with what is in it.

    Raises `DataError` if it is damaged, or if benchmarks ask for images that are not in it.
    """
    from hqclip.data.shards import scan_shard  # what it imports is not wanted to know what a suite is

    where = f"{suite.store.uri}/{suite.images}"
    with scratch_folder() as folder:
        path = folder / "images.tar"
        suite.store.download(suite.images, path)
        scan = scan_shard(path)
        if scan.damage:
            raise DataError(f"{where}: {scan.damage}; fetch the suite again")
        there = {row.uid for row in scan.rows}
        for benchmark in suite.benchmarks:
            _check_uids(benchmark, there, scan, where)
        yield path, scan


def _check_uids(benchmark: Benchmark, there: Collection[str], scan: ShardScan, where: str) -> None:
    missing = [uid for uid in dict.fromkeys(benchmark.uids) if uid not in there]
    if missing:
        refused = ", ".join(f"{count} {fault}" for fault, count in sorted(scan.faults.items()))
        raise DataError(
            f"benchmark {benchmark.name}: {len(missing)} images of its uids are not among the {len(there)} samples of "
            f"{where} (first: {missing[0]!r}{'; refused there: ' + refused if refused else ''}); add them, or take the "
            "items out"
        )


def _written(benchmark: Benchmark) -> dict[str, Any]:
    """The document of a benchmark, without the fields that are at their default: so a new one changes no digest."""
    defaults = {field.name: field.default for field in dataclasses.fields(benchmark)}
    fields = {name: value for name, value in asdict(benchmark).items() if value != defaults[name]}
    return {"kind": benchmark.KIND, **fields}


def _document(store: Store, file: str) -> dict[str, Any]:
    """A benchmark file as JSON. Raises `DataError` for what is none, NaN included."""

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        document = json.loads(store.read(file), parse_constant=refuse)
        canonical_json(document)  # a number such as 1e999 is none
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{store.uri}/{file} is not a JSON document: {error}; mend it or fetch the suite again"
        ) from error
    if not isinstance(document, dict):
        raise DataError(f"{store.uri}/{file} is a JSON {type(document).__name__}; a benchmark is an object with a kind")
    return document


def _benchmark(document: dict[str, Any], where: str) -> Benchmark:
    kind = document.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(f"{where}: unknown kind of benchmark {kind!r}; known kinds: {', '.join(KINDS)}")
    fields_of = dataclasses.fields(KINDS[kind])
    known = [field.name for field in fields_of]
    needed = [field.name for field in fields_of if field.default is dataclasses.MISSING]
    wrong = [f"unknown field {name!r}{did_you_mean(name, known)}" for name in document if name not in (*known, "kind")]
    wrong += [f"the field {name!r} is missing" for name in needed if name not in document]
    if wrong:
        raise DataError(f"{where}: {'; '.join(wrong)}; a {kind} has {', '.join(known)}")
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items() if name != "kind"}
    make: Callable[..., Benchmark] = KINDS[kind]
    benchmark = make(**fields)
    _check(benchmark, where)
    return benchmark


def _check(benchmark: Benchmark, where: str) -> None:
    """Raises `DataError` with all that is wrong."""
    name = benchmark.name
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise DataError(f"{where}: name is {name!r}; give the benchmark a name in one line, without a slash")
    faults = list(benchmark.faults())
    if faults:
        raise DataError("\n".join(f"{where}, benchmark {name}: {fault}" for fault in faults))


def _check_names(names: Sequence[str], where: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice or "suite" in names:
        reason = f"{twice[0]!r} comes twice" if twice else "one is named 'suite', as the manifest" if names else "none"
        raise DataError(f"{where}: benchmarks: {reason}; give at least one, each with a name of its own")
