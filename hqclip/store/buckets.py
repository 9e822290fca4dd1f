"""What stores in buckets have in common: a reader that asks for ranges, and documents that came compressed."""

from __future__ import annotations

import gzip
import io
import zlib
from typing import Any, Protocol

from hqclip.errors import StorageError
from hqclip.foreign_text import harmless
from hqclip.store.protocol import ObjectInfo

READ_AHEAD_BYTES = 4 << 20


class Ranged(Protocol):
    """A store whose objects can be read in parts, all of one generation."""

    uri: str

    def read_range(self, key: str, start: int, length: int | None, generation: str | None = None) -> bytes:
        """As `Store.read`; `NotFoundError` if the object is of another generation by now."""
        ...


def reader(store: Ranged, info: ObjectInfo) -> io.BufferedReader:
    """A seekable reader over one generation of an object."""
    return io.BufferedReader(_Ranges(store, info), READ_AHEAD_BYTES)


class _Ranges(io.RawIOBase):
    """One generation of an object, read piece by piece."""

    def __init__(self, store: Ranged, info: ObjectInfo) -> None:
        self._store, self._info, self._position = store, info, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size}[whence]
        if start + offset < 0:
            raise ValueError(f"position {start + offset} is before the start")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:  # the inherited one asks for 8 KiB at a time
        return self._next(self._info.size)

    def _next(self, length: int) -> bytes:
        length = max(0, min(length, self._info.size - self._position))
        data = self._store.read_range(self._info.key, self._position, length, self._info.generation)
        if len(data) != length:
            raise StorageError(f"{self._store.uri}/{self._info.key}: got {len(data)} of {length} bytes; run again")
        self._position += length
        return data


def unpacked(uri: str, data: bytes) -> bytes:
    """What `gsutil cp -z` or the like has compressed on the way: whoever reads a document wants what was sent."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise StorageError(
            f"{uri}: its Content-Encoding is gzip, but its content is not ({error}); store it again"
        ) from error


def short(error: Exception) -> str:
    """What was said, in one line, without keys: a service may repeat the one that it was given."""
    return harmless(str(error))[:300]
