"""A suite: sets of images in webdataset shards, each with a benchmark that refers to them by uid.

`suite.json` names shards and benchmark files beside it; its digest covers all of them, so two evaluations with the same
suite digest can be compared item by item. What a benchmark says is checked when it is written and when it is read: a
slip in it would become a false number.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.benchmarks.checks import alike
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.manifest import (
    OneShardManifest,
    Origin,
    SetEntry,
    ShardFile,
    digest_of_set,
    digest_of_sets,
    parse_manifest,
)
from hqclip.evaluate.named_suites import SUITES
from hqclip.records import canonical_json, digest_of
from hqclip.settings import did_you_mean
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder
from hqclip.strict_json import read_json

if TYPE_CHECKING:
    from hqclip.data.shards import Row, ShardScan


@dataclass(frozen=True)
class SuiteSet:
    """One benchmark; its images are in `shards`, keys of the suite's store, which other sets may share."""

    benchmark: Benchmark
    digest: str
    shards: tuple[ShardFile, ...]
    file: str = ""
    origin: Origin | None = None


@dataclass(frozen=True)
class Suite:
    """A suite with its benchmarks read; the images stay in `store`. `skipped`: sets that are not there, and why."""

    name: str
    digest: str
    store: Store
    sets: tuple[SuiteSet, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def benchmarks(self) -> tuple[Benchmark, ...]:
        """Of all sets, in their order."""
        return tuple(one.benchmark for one in self.sets)

    def entry(self, one: SuiteSet) -> SetEntry:
        """A set as a manifest names it."""
        return SetEntry(one.benchmark.name, one.digest, one.file, one.shards, one.origin)


class ImageShard(NamedTuple):
    """A shard of images as a local file, for as long as the iteration stands at it; `where` is its URI."""

    where: str
    path: Path
    rows: Sequence[Row]


def write_suite(store: Store, name: str, images: str, benchmarks: Sequence[Benchmark]) -> str:
    """Write benchmark files and then the manifest beside the image shard `images`; the key of the manifest.

    Raises `DataError` for a benchmark that cannot be scored, or that asks for images which are not in the shard.
    """
    shard = store.stat(images)
    if shard is None:
        raise DataError(f"{store.uri}/{images} does not exist; write the images of a suite first")
    documents = [document_of(benchmark) for benchmark in benchmarks]
    files = tuple(f"{document['name']}.json" for document in documents)
    for file, benchmark in zip(files, benchmarks, strict=True):
        check(benchmark, f"{store.uri}/{file}")
    _check_names([benchmark.name for benchmark in benchmarks], f"{store.uri}/suite.json")
    digest = digest_of([shard.size, shard.crc32c, documents])
    shards = (ShardFile(images, shard.size, shard.crc32c),)
    for _ in shards_of(Suite(name, digest, store, tuple(SuiteSet(one, "", shards) for one in benchmarks))):
        pass  # all images are there
    is_there = store.exists("suite.json")  # otherwise files are of a try that was cut short
    for key, document in zip(files, documents, strict=True):
        store.write(key, canonical_json(document), create_only=is_there)
    store.write("suite.json", OneShardManifest(name=name, digest=digest, images=images, benchmarks=files).to_json())
    return "suite.json"


def read_suite(uri: str, *, quick: bool = False) -> Suite:
    """The suite at the URI of its `suite.json`. Raises `NotFoundError`, `DataError`.

    Its images are not read, only compared by size and checksum (not even that if `quick`); `shards_of` reads them.
    """
    folder, name = split_uri(uri)
    store = open_store(folder)
    manifest = parse_manifest(store.read(name), uri)
    if isinstance(manifest, OneShardManifest):
        return _read_one_shard(store, manifest, uri)
    sets = tuple(read_set(store, entry, quick=quick) for entry in manifest.sets)
    digest = digest_of_sets({one.benchmark.name: one.digest for one in sets})
    if digest != manifest.digest:
        raise DataError(f"{uri}: digest is {manifest.digest}, but that of its sets is {digest}; fetch the suite again")
    return Suite(manifest.name, manifest.digest, store, sets)


def _read_one_shard(store: Store, manifest: OneShardManifest, uri: str) -> Suite:
    documents = [_document(store, file) for file in manifest.benchmarks]
    shard = store.stat(str(manifest.images))
    if shard is None or digest_of([shard.size, shard.crc32c, documents]) != manifest.digest:
        raise DataError(f"{uri}: the images or benchmarks are not those it was made of; fetch the suite again")
    file = ShardFile(manifest.images, shard.size, shard.crc32c)
    sets = tuple(
        SuiteSet(_benchmark(document, f"{store.uri}/{key}"), digest_of_set([file], document), (file,), key)
        for key, document in zip(manifest.benchmarks, documents, strict=True)
    )
    _check_names([one.benchmark.name for one in sets], uri)
    return Suite(manifest.name, manifest.digest, store, sets)


def read_set(store: Store, entry: SetEntry, *, quick: bool) -> SuiteSet:
    """One set of a suite. Raises `DataError` that names the file or shard which is not what the set was made of."""
    where = f"{store.uri}/{entry.benchmark}"
    document = _document(store, entry.benchmark)
    for shard in entry.shards if not quick else ():
        there = store.stat(shard.key)
        if there is None or (there.size, there.crc32c) != (shard.size, shard.crc32c):
            wrong = "does not exist" if there is None else f"is not the one of {shard.size} bytes that it was made of"
            raise DataError(f"set {entry.name}: its shard {store.uri}/{shard.key} {wrong}; fetch the suite again")
    if digest_of_set(entry.shards, document) != entry.digest:
        raise DataError(f"{where} is not what the set {entry.name} was made of; fetch the suite again")
    benchmark = _benchmark(document, where)
    if benchmark.name != entry.name:
        raise DataError(f"{where}: name is {benchmark.name!r}, but the suite calls the set {entry.name!r}; name it so")
    return SuiteSet(benchmark, entry.digest, entry.shards, entry.benchmark, entry.origin)


def choose(suite: Suite, names: Sequence[str], *, skip_missing: bool = False) -> Suite:
    """The suite with these sets only, of which a named suite (`quick`) stands for several.

    Its digest is that of a suite which has no others.

    Raises `NotFoundError` for a set that is not there, unless such are to be skipped; then `skipped` says why.
    """
    known = {one.benchmark.name: one for one in suite.sets}
    names = [one for name in names for one in ((name,) if name in known else SUITES.get(name, (name,)))]
    missing = [name for name in dict.fromkeys(names) if name not in known]
    if missing and not skip_missing:
        raise NotFoundError(
            f"the suite {suite.name} has no set {missing[0]!r}{did_you_mean(missing[0], [*known, *SUITES])} "
            f"({len(missing)} of {len(names)} are not there; it has {', '.join(known)}); "
            "import it with `hqclip suite import`, or go on without: --skip-missing true"
        )
    chosen = tuple(known[name] for name in sorted(set(names) & set(known)))
    if not chosen:
        raise NotFoundError(
            f"the suite {suite.name} has none of the sets {', '.join(names)}; it has {', '.join(known)}"
        )
    skipped = dict.fromkeys(missing, f"not in the suite {suite.name}")
    if len(chosen) == len(known):
        return dataclasses.replace(suite, skipped=skipped)
    digest = digest_of_sets({one.benchmark.name: one.digest for one in chosen})
    return Suite(suite.name, digest, suite.store, chosen, skipped)


def limited(suite: Suite, number: int) -> Suite:
    """The suite with at most so many items a set, under a digest of its own. Raises `DataError` if they are too few."""
    sets = tuple(dataclasses.replace(one, benchmark=one.benchmark.first(number)) for one in suite.sets)
    for one in sets:
        _refuse(one.benchmark.faults(), one.benchmark.name, f"{suite.name} with a limit of {number} items a set")
    return dataclasses.replace(suite, digest=digest_of([suite.digest, "first", number]), sets=sets)


def shards_of(suite: Suite) -> Iterator[ImageShard]:
    """Every shard of images once, in the order of the sets; one at a time is on this machine.

    Raises `DataError` for one that is damaged, and once the last shard of a set was met, but images of its benchmark
    were in none.
    """
    from hqclip.data.shards import scan_shard  # what it imports is not wanted to know what a suite is

    seeking = [_Sought(one) for one in suite.sets]
    for key in dict.fromkeys(shard.key for one in suite.sets for shard in one.shards):
        where = f"{suite.store.uri}/{key}"
        with scratch_folder() as folder:
            path = folder / "images.tar"
            suite.store.download(key, path)
            scan = scan_shard(path, referred=True)
            if scan.damage:
                raise DataError(f"{where}: {scan.damage}; fetch the suite again")
            for sought in seeking:
                sought.meet(key, where, scan)
            yield ImageShard(where, path, scan.rows)


class _Sought:
    """The images of a set that no shard has shown yet."""

    def __init__(self, one: SuiteSet) -> None:
        self._name, self._shards = one.benchmark.name, [shard.key for shard in one.shards]
        self._missing = dict.fromkeys(one.benchmark.uids)
        self._rows, self._refused = 0, Counter[str]()

    def meet(self, key: str, where: str, scan: ShardScan) -> None:
        """Raises `DataError` if this was the last shard of the set."""
        if key not in self._shards:
            return
        self._rows += len(scan.rows)
        self._refused += scan.faults
        for row in scan.rows:
            self._missing.pop(row.uid, None)
        if self._missing and key == self._shards[-1]:
            refused = ", ".join(f"{count} {fault}" for fault, count in sorted(self._refused.items()))
            raise DataError(
                f"benchmark {self._name}: {len(self._missing)} images of its uids are not among the {self._rows} "
                f"samples of {where}{' and the shards before it' if len(self._shards) > 1 else ''} "
                f"(first: {next(iter(self._missing))!r}{'; refused there: ' + refused if refused else ''}); "
                "add them, or take the items out"
            )


def document_of(benchmark: Benchmark) -> dict[str, Any]:
    """What is written of a benchmark: without the fields that are at their default, so a new one changes no digest."""
    defaults = {field.name: field.default for field in dataclasses.fields(benchmark)}
    fields = {name: value for name, value in asdict(benchmark).items() if value != defaults[name]}
    return {"kind": benchmark.KIND, **fields}


def _document(store: Store, file: str) -> dict[str, Any]:
    """A benchmark file as JSON. Raises `DataError` for what is none, and for a field that is given twice."""
    try:
        document = read_json(store.read(file))
    except ValueError as error:
        raise DataError(f"{store.uri}/{file} {error}; mend it or fetch the suite again") from error
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
    check(benchmark, where)
    return benchmark


def check(benchmark: Benchmark, where: str) -> None:
    """Raises `DataError` with all that is wrong with a benchmark."""
    name = benchmark.name
    if not isinstance(name, str) or not name.strip() or "/" in name or not name.isprintable():
        raise DataError(f"{where}: name is {name!r}; give the benchmark a name in one line, without a slash")
    _refuse(benchmark.faults(), name, where)
    _refuse(alike(benchmark), name, where)


def _refuse(faults: Iterator[str], name: str, where: str) -> None:
    told = "\n".join(f"{where}, benchmark {name}: {fault}" for fault in faults)
    if told:
        raise DataError(told)


def _check_names(names: Sequence[str], where: str) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice or "suite" in names:
        reason = f"{twice[0]!r} comes twice" if twice else "one is named 'suite', as the manifest" if names else "none"
        raise DataError(f"{where}: benchmarks: {reason}; give at least one, each with a name of its own")
