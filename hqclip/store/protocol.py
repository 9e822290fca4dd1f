"""What every store promises, and what a key may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from hqclip.errors import ConfigError


@dataclass(frozen=True)
class ObjectInfo:
    """One stored object: `crc32c` is the checksum as an unsigned integer, `generation` changes with every write."""

    key: str
    size: int
    crc32c: int
    generation: str


@dataclass(frozen=True)
class Listed:
    """One object of a listing: `changed` is when it was last written, in seconds by the clock of the store."""

    key: str
    size: int
    changed: float


class Store(Protocol):
    """A prefix of `gs://bucket` or `s3://bucket`, or of a local folder. Keys are relative, with `/` between parts.

    All methods raise `AccessError` (no permission), `UnavailableError` (no answer after retries) and
    `StorageError` (disk full, checksum mismatch); `NotFoundError` and `ConflictError` where said.
    """

    uri: str

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        """Store `data` whole or not at all.

        With `create_only` an existing object is left alone: if it has the same size and crc32c this
        is a success (a lost acknowledgement looks the same), otherwise `ConflictError`.
        """
        ...

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        """Replace the object seen as `expected` (None: it must not exist); `ConflictError` if it changed meanwhile."""
        ...

    def download(self, key: str, path: Path) -> ObjectInfo:
        """Copy to the local `path`, verified by size and crc32c; a short file never bears that name."""
        ...

    def open(self, key: str) -> BinaryIO:
        """A seekable reader over the object as it is now."""
        ...

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """Bytes `start` to `start + length`; the whole object, checked against its crc32c, by default.

        A whole object that a bucket keeps with Content-Encoding gzip (`gsutil cp -z`) is unpacked.
        """
        ...

    def stat(self, key: str) -> ObjectInfo | None:
        """Size, checksum and generation; None if there is no such object."""
        ...

    def changed_at(self, key: str) -> float | None:
        """When the object was last written, in seconds by the clock of the store; None if there is no such object.

        To be compared with that of another object of this store, never with a clock of this machine.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such an object; cheaper than `stat`, which may have to read it."""
        ...

    def list(self, prefix: str = "") -> Iterator[str]:
        """Keys that start with `prefix`, sorted, as they come."""
        ...

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """What `list` lists, with size and time, in any order; a bucket is asked once for a thousand objects."""
        ...

    def copy(self, source_uri: str, key: str) -> ObjectInfo:
        """Create `key` from another object of the same kind of store, server side within Google Cloud Storage."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens if it is gone already."""
        ...


def check_key(key: str, errors: str = "strict") -> str:
    """Refuse keys that leave the store or that some file system or bucket cannot hold. Raises `ConfigError`.

    With `errors` "surrogateescape" names of local files pass that are no UTF-8, as Python has them.
    """
    try:
        key.encode(errors=errors)
    except UnicodeEncodeError as error:
        raise ConfigError(f"{key!r} is not a key of a store: half a character is no name") from error
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or any(ord(letter) < 32 for letter in key):
        raise ConfigError(f"{key!r} is not a key of a store: give relative parts without '..' or control characters")
    return key
