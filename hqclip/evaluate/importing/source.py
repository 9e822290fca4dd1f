"""Where a set lies in, its files out: each remembered by its sha256, each fault said with the name of its file."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hqclip.data.tar import Damage, Member, is_safe, members
from hqclip.data.unpack import unpack
from hqclip.errors import DataError, NotFoundError
from hqclip.evaluate.benchmarks.checks import shown
from hqclip.evaluate.config import SuiteImportConfig
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder
from hqclip.strict_json import read_json

DOCUMENTS = (".json", ".jsonl", ".csv")  # a source that ends so is a file, any other a folder


class Tar(NamedTuple):
    """A tar on this machine, for the length of a block."""

    path: Path
    members: list[Member]


class Source:
    """The files of one import. `left_out` counts the items that could not be used, by reason."""

    def __init__(self, config: SuiteImportConfig) -> None:
        self.config = config
        self.limit = config.limit
        self.left_out: Counter[str] = Counter()
        uri = config.source.rstrip("/")
        self.folder, self.file = split_uri(uri) if uri.endswith(DOCUMENTS) else (uri or "/", "")
        self._sha256: dict[str, str] = {}
        self._stores: dict[str, Store] = {}

    def names(self, prefix: str = "") -> Iterator[str]:
        """What lies in the folder of the source, sorted."""
        return self._store(self.folder).list(prefix)

    def documents(self, ending: str) -> list[str]:
        """The file that was given, or all in its folder that end so. Raises `NotFoundError` if there are none."""
        if self.file:
            return [self.file]
        found = [name for name in self.names() if name.endswith(ending) and "/" not in name]
        if not found:
            raise NotFoundError(f"{self.folder}: no {ending} file is there; give the file itself, or its folder")
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a file in the folder of the source."""
        return self._store(self.folder).exists(name)

    def read(self, name: str, folder: str = "") -> bytes:
        """A whole file of a folder, by default that of the source. Raises `NotFoundError`."""
        data = self._store(folder or self.folder).read(name)
        self._remember(f"{folder or self.folder}/{name}", hashlib.sha256(data).hexdigest())
        return data

    def lines(self, name: str, uri: str = "") -> list[str]:
        """The lines of a text file without the blanks around them; of `uri`, if that is given."""
        folder, name = split_uri(uri) if uri else (self.folder, name)
        where = f"{folder}/{name}"
        lines = [line.strip() for line in self.text(self.read(name, folder), where).splitlines()]
        if "" in lines:
            raise DataError(f"{where}, line {lines.index('') + 1}: it is empty; fill it or take it out")
        return lines

    def text(self, data: bytes, where: str) -> str:
        """UTF-8. Raises `DataError`."""
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{where} is not UTF-8 ({error.reason} at byte {error.start}); convert it") from error

    def json(self, name: str) -> Any:
        """A JSON file. Raises `DataError` for what is none."""
        where = f"{self.folder}/{name}"
        return self.parse(self.text(self.read(name), where), where)

    def parse(self, text: str, where: str) -> Any:
        """What JSON says. Raises `DataError` for what is none, and for a key that comes twice: one would be lost."""
        try:
            return read_json(text, finite=False)
        except ValueError as error:
            raise DataError(f"{where} {error}; mend it or fetch it again") from error

    @contextmanager
    def tar(self, name: str, folder: str = "") -> Iterator[Tar]:
        """A tar, unpacked if it is compressed. Raises `DataError` for one that is damaged, by its name."""
        folder = folder or self.folder
        with scratch_folder() as scratch:
            path = scratch / "shard.tar"
            self._store(folder).download(name, path)
            with path.open("rb") as file:
                self._remember(f"{folder}/{name}", hashlib.file_digest(file, "sha256").hexdigest())
            try:
                unpack(path)
                with path.open("rb") as file:
                    found = list(members(file, path.stat().st_size))
            except Damage as damage:
                raise DataError(f"{folder}/{name}: {damage}; fetch it again") from damage
            yield Tar(path, found)

    def leave_out(self, reason: str, message: str) -> None:
        """Count an item that cannot be used. Raises `DataError` unless such are to be left out."""
        if not self.config.skip_missing:
            raise DataError(f"{message}; mend it, or leave out and count what cannot be used: --skip-missing true")
        self.left_out[reason] += 1

    def sha256(self) -> str:
        """Of the names and contents of all files that were read, as lines of `sha256sum`, sorted by name."""
        lines = (f"{digest}  {name}\n" for name, digest in sorted(self._sha256.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _remember(self, uri: str, digest: str) -> None:
        """Names below the source stand without it, so that a copy elsewhere is the same."""
        self._sha256[uri.removeprefix(f"{self.folder}/")] = digest

    def _store(self, folder: str) -> Store:
        if folder not in self._stores:
            self._stores[folder] = open_store(folder)
        return self._stores[folder]


def field(item: Any, name: str, kind: type, where: str) -> Any:
    """A field of a JSON object that must be there and of this kind. Raises `DataError`."""
    if not isinstance(item, dict):
        raise DataError(f"{where} is {shown(item)}; an item is an object with fields such as {name!r}")
    if name not in item:
        raise DataError(f"{where}: the field {name!r} is missing; is this the right --layout?")
    value = item[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = {str: "text", int: "a whole number", list: "a list", dict: "an object"}[kind]
        raise DataError(f"{where}: {name} is {shown(value)}; it must be {wanted}")
    return value


def read_csv(source: Source, name: str, fields: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file, each with where it is; it has at least these columns. Raises `DataError`."""
    where = f"{source.folder}/{name}"
    rows = csv.DictReader(io.StringIO(source.text(source.read(name), where), newline=""), strict=True)
    try:
        found = [(f"{where}, line {rows.line_num}", row) for row in rows]
    except csv.Error as error:
        raise DataError(f"{where}, line {rows.line_num}: {error}; mend it") from error
    missing = [name for name in fields if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(f"{where} has the columns {', '.join(rows.fieldnames or ())}; {missing[0]!r} is missing")
    return found


def objects(document: Any, where: str) -> dict[str, Any]:
    """The items of a JSON object by their keys. Raises `DataError`."""
    if not isinstance(document, dict):
        raise DataError(f"{where} is {shown(document)}; it must be an object of items; is this the right --layout?")
    return document


def text_field(item: Any, name: str, where: str) -> str:
    """A text that says something. Raises `DataError`."""
    value: str = field(item, name, str, where)
    if not value.strip():
        raise DataError(f"{where}: {name} is {shown(value)}, which says nothing; write it or take the item out")
    return value


def image_name(item: Any, name: str, where: str) -> str:
    """The name of an image file that stays in its folder. Raises `DataError`."""
    value = text_field(item, name, where)
    if not is_safe(value) or "" in value.split("/") or "." in value.split("/"):
        raise DataError(f"{where}: {name} is {shown(value)}, which leads out of the folder of images; mend it")
    return value
