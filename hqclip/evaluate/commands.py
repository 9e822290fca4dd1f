"""A suite in; what is in it as a table out (`show`), or what is wrong with it, image by image (`check`)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hqclip.data.images import ImageFault, decode_picture
from hqclip.data.shards import REPAIRS, Row, scan_shard
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.config import SuiteCheckConfig, SuiteShowConfig
from hqclip.evaluate.manifest import NAME, ShardFile, SuiteManifest, parse_manifest
from hqclip.evaluate.suite import SuiteSet, read_set, read_suite
from hqclip.progress import Progress
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder
from hqclip.store.local import checksum

COLUMNS = ("set", "kind", "items", "images", "classes", "captions", "MB", "licence", "digest")
MAX_SAID = 5  # images of a shard that are named


def manifest_uri(uri: str) -> str:
    """The `suite.json` that is meant by it, or by the folder that it is in."""
    return uri if uri.endswith(".json") else f"{uri.rstrip('/')}/{NAME}"


def show(config: SuiteShowConfig) -> dict[str, Any]:
    """What the sets of a suite are, as rows and as a table. Images are not looked at."""
    suite = read_suite(manifest_uri(config.suite), quick=True)
    rows = [_row(one) for one in suite.sets]
    return {
        "suite": suite.name,
        "digest": suite.digest,
        "sets": rows,
        "table": _table(rows),
    }


def _row(one: SuiteSet) -> dict[str, Any]:
    benchmark, origin = one.benchmark, one.origin
    texts = {name: len(column) for name, column in benchmark.texts().items()}
    classes = getattr(benchmark, "classes", ())
    return {
        "set": benchmark.name,
        "kind": benchmark.KIND,
        "items": len(benchmark.uids),
        "images": len(set(benchmark.uids)),
        "classes": len(classes),
        "captions": 0 if classes else sum(texts.values()),
        "MB": round(sum(shard.size for shard in one.shards) / 1e6, 1),
        "licence": origin.licence if origin else "",
        "digest": one.digest,
        "origin": None if origin is None else {**vars(origin)},
    }


def _table(rows: Sequence[dict[str, Any]]) -> str:
    cells = [COLUMNS, *(tuple(str(row[name] or "-") for name in COLUMNS) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    return "\n".join("  ".join(f"{cell:{w}}" for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells)


def check(config: SuiteCheckConfig) -> dict[str, Any]:
    """Read every file and decode every image. Raises `DataError` with all that is wrong."""
    uri = manifest_uri(config.suite)
    folder, name = split_uri(uri)
    store = open_store(folder)
    manifest = parse_manifest(store.read(name), uri)
    wrong: list[str] = []
    if isinstance(manifest, SuiteManifest):
        sets = list(_sets(store, manifest, wrong))
    else:
        sets = list(read_suite(uri).sets)
    there: dict[str, set[str]] = {}
    shards = {shard.key: shard for one in sets for shard in one.shards}
    with Progress("suite check", len(shards), "shards") as progress:
        for shard in shards.values():
            there[shard.key], faults = _check_shard(store, shard)
            wrong += faults
            progress.advance()
    for one in sets:
        wrong += _missing(one, there)
    if not wrong:
        read_suite(uri, quick=True)  # what is wrong with the whole, such as its digest
    if wrong:
        raise DataError("\n".join([f"{uri}: {len(wrong)} faults", *(f"  {fault}" for fault in wrong)]))
    return {"suite": uri, "sets": len(sets), "shards": len(shards), "images": sum(map(len, there.values()))}


def _sets(store: Store, manifest: SuiteManifest, wrong: list[str]) -> Iterator[SuiteSet]:
    for entry in manifest.sets:
        try:
            yield read_set(store, entry, quick=True)
        except (DataError, NotFoundError) as error:
            wrong += str(error).splitlines()


def _check_shard(store: Store, shard: ShardFile) -> tuple[set[str], list[str]]:
    """The uids of its images, and what is wrong with it."""
    where = f"{store.uri}/{shard.key}"
    with scratch_folder() as folder:
        path = folder / "images.tar"
        try:
            store.download(shard.key, path)
        except NotFoundError as error:
            return set(), [str(error)]
        scan = scan_shard(path, referred=True)
        with path.open("rb") as file:
            same = checksum(file) == (shard.size, shard.crc32c)
            pictures = [f"image {row.uid}: {fault}" for row, fault in _faults(file.fileno(), scan.rows) if fault]
    wrong = [] if same else [f"{where} is not what the suite was made of"]
    wrong += [f"{where}: {scan.damage}"] if scan.damage else []
    refused = Counter({fault: count for fault, count in scan.faults.items() if fault not in REPAIRS})
    wrong += [f"{where}: {count} {fault} (first: {scan.examples[fault]})" for fault, count in sorted(refused.items())]
    wrong += [f"{where}, {picture}" for picture in pictures[:MAX_SAID]]
    wrong += [f"{where}: {len(pictures) - MAX_SAID} more images"] if len(pictures) > MAX_SAID else []
    return {row.uid for row in scan.rows}, wrong


def _faults(descriptor: int, rows: Sequence[Row]) -> Iterator[tuple[Row, ImageFault | None]]:
    def fault(row: Row) -> ImageFault | None:
        try:
            decode_picture(os.pread(descriptor, row.image_size, row.image_offset))
        except ImageFault as found:
            return found
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from zip(rows, pool.map(fault, rows), strict=True)


def _missing(one: SuiteSet, there: dict[str, set[str]]) -> list[str]:
    found = set[str]().union(*(there[shard.key] for shard in one.shards))
    missing = [uid for uid in dict.fromkeys(one.benchmark.uids) if uid not in found]
    if not missing:
        return []
    return [f"set {one.benchmark.name}: {len(missing)} images are in none of its shards (first: {missing[0]!r})"]
