"""What somebody gives as a suite in, the `suite.json` that is meant out.

A folder of sets as CLIP_benchmark has them, or one such set, is imported into the store of the run, once: what was
imported is named by the size and checksum of every file, so the same folder is the same suite.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hqclip import log
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.evaluate.datacomp import TASKS
from hqclip.evaluate.manifest import NAME, SuiteManifest, parse_manifest
from hqclip.records import digest_of
from hqclip.store import Store, open_store, split_uri

SPLIT = "test"
SHARDS = f"{SPLIT}/nshards.txt"
PUBLISHED = re.compile(r"wds_(.+)_test")  # as DataComp calls the folders of its sets


def find_suite(store: Store, uri: str) -> str:
    """The URI of a `suite.json`: that which is given, or lies in the folder that is given, or is made of the folder.

    Raises `NotFoundError` for a folder in which there is none of these.
    """
    if uri.endswith(".json"):
        return uri
    uri = uri.rstrip("/")
    folder = open_store(uri)
    if folder.exists(NAME):
        return f"{uri}/{NAME}"
    keys = list(_keys(folder))
    sets = {_name(found, uri): found for key in keys if (found := _set_of(key)) is not None}
    if not sets:
        parent, name = split_uri(uri)
        if open_store(parent).exists(name):
            return uri  # a file: what it is will be said when it is read
        raise NotFoundError(
            f"{uri} has neither {NAME} nor sets as CLIP_benchmark has them (.../{SHARDS}); give one of these, or make "
            "a suite of what there is with `hqclip suite import`"
        )
    from hqclip.evaluate.importing.command import run  # what it imports is not wanted where a suite.json is given

    place = f"{store.uri}/suites/{digest_of(_identity(folder, keys, sorted(sets.values())))}"
    made = open_store(place)
    there = _names_in(made)
    for number, (name, found) in enumerate(sorted(sets.items()), 1):
        if name not in there:
            log.info("suite", f"importing {name}, set {number} of {len(sets)} of {uri}, into {place}")
            run(SuiteImportConfig(suite=place, source=f"{uri}/{found}".rstrip("/"), name=name, split=SPLIT))
    return f"{place}/{NAME}"


def _keys(folder: Store) -> Iterator[str]:
    for key in folder.list():
        parts = key.split("/")
        if key.endswith(".txt") or (key.endswith(".tar") and parts[-2:-1] == [SPLIT]):
            yield key


def _set_of(key: str) -> str | None:
    """The folder of a set, by the file that every set has: "" is the folder that was given."""
    if key == SHARDS:
        return ""
    return key.removesuffix(f"/{SHARDS}") if key.endswith(f"/{SHARDS}") else None


def _name(found: str, uri: str) -> str:
    name = found.replace("/", "-") or uri.rpartition("/")[2]
    published = PUBLISHED.fullmatch(name)
    task = next((task.name for task in TASKS if task.folder == name), "")
    return task or (published[1] if published else name)


def _identity(folder: Store, keys: list[str], sets: list[str]) -> list[list[str | int]]:
    prefixes = [f"{found}/" if found else "" for found in sets]
    identity: list[list[str | int]] = []
    for key in keys:
        if not any(key.startswith(prefix) for prefix in prefixes):
            continue
        info = folder.stat(key)
        if info is None:
            raise DataError(f"{folder.uri}/{key} went away while it was looked at; leave the folder as it is")
        identity.append([key, info.size, info.crc32c])
    return identity


def _names_in(store: Store) -> set[str]:
    if not store.exists(NAME):
        return set()
    manifest = parse_manifest(store.read(NAME), f"{store.uri}/{NAME}")
    return {entry.name for entry in manifest.sets} if isinstance(manifest, SuiteManifest) else set()
