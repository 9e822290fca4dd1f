"""A local folder as a store: keys are file names, promises are kept by links, renames and locks.

A file is written under a hidden name in its own folder, so a killed process leaves nothing under a final name.
Hidden names start with `.hqclip-`; they are never listed and are no keys. A `.hqclip-*.tmp` that a killed process left
is removed by the next one that writes to its folder or lists it.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from hqclip.errors import AccessError, ConfigError, ConflictError, HQClipError, NotFoundError, StorageError
from hqclip.store.leftovers import HIDDEN, MAKING, hold, is_in_the_making, remove_if_left, remove_left_once
from hqclip.store.protocol import Listed, ObjectInfo, check_key

BLOCK_BYTES = 1 << 20
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}


class LocalStore:
    """The files below `root`. Safe for many processes, on any file system with working renames and `flock`.

    File systems keep no checksum of their own, so `crc32c` is always that of the bytes as they are now.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.uri = str(self.root)

    def write(self, key: str, data: bytes | Path, *, create_only: bool = True) -> ObjectInfo:
        """See `Store.write`. A `Path` is copied block by block."""
        path = self._path(key)
        with opened(data) as source, faults_at(path):
            if not create_only:
                with _locked(path.parent):
                    return _publish(key, source, path, os.replace)
            try:
                return _publish(key, source, path, _link)
            except FileExistsError as taken:
                source.seek(0)
                there = self.stat(key)
                if there is None or (there.size, there.crc32c) != checksum(source):
                    raise ConflictError(f"{path} exists with other content; it was left as it is") from taken
                return there

    def swap(self, key: str, data: bytes, *, expected: ObjectInfo | None) -> ObjectInfo:
        """See `Store.swap`."""
        path = self._path(key)
        with faults_at(path):
            if expected is None:
                try:
                    return _publish(key, io.BytesIO(data), path, _link)
                except FileExistsError as taken:
                    raise ConflictError(f"{path} was created by someone else; read it and decide anew") from taken
            with _locked(path.parent):
                there = self.stat(key)
                if there is None or there.generation != expected.generation:
                    raise ConflictError(f"{path} was changed by someone else; read it again and decide anew")
                return _publish(key, io.BytesIO(data), path, os.replace)

    def download(self, key: str, path: Path) -> ObjectInfo:
        """See `Store.download`."""
        with faults_at(path), self.open(key) as source, new_file(path) as file:
            size, crc32c = checksum(source, copy_to=file)
            info = _info(key, source, crc32c)
            if size != info.size:
                raise StorageError(f"{self.root / key}: read {size} of {info.size} bytes")
        return info

    def open(self, key: str) -> BinaryIO:
        """See `Store.open`. The reader keeps what was there when it was opened."""
        path = self._path(key)
        with faults_at(path):
            try:
                return path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise NotFoundError(f"{path}: no such object") from error

    def read(self, key: str, start: int = 0, length: int | None = None) -> bytes:
        """See `Store.read`."""
        check_range(start, length)
        with self.open(key) as file, faults_at(self.root / key):
            file.seek(start)
            return file.read(-1 if length is None else length)

    def stat(self, key: str) -> ObjectInfo | None:
        """See `Store.stat`. Reads the file, for its checksum: about a second per GB."""
        try:
            with self.open(key) as file, faults_at(self.root / key):
                return _info(key, file, checksum(file)[1])
        except NotFoundError:
            return None

    def changed_at(self, key: str) -> float | None:
        """See `Store.changed_at`. The file system's own time: no process sets it, as it may the time of a file."""
        path = self._path(key)
        with faults_at(path):
            try:
                return path.stat().st_ctime_ns / 1e9
            except (FileNotFoundError, NotADirectoryError):
                return None

    def exists(self, key: str) -> bool:
        """See `Store.exists`."""
        path = self._path(key)
        with faults_at(path):
            return path.is_file()

    def list(self, prefix: str = "") -> Iterator[str]:
        """See `Store.list`. One folder at a time is held in memory."""
        check_prefix(prefix)
        return self._keys(prefix)

    def scan(self, prefix: str = "") -> Iterator[Listed]:
        """See `Store.scan`."""
        return (there for key in self.list(prefix) if (there := self._listed(key)))

    def copy(self, source_uri: str, key: str) -> ObjectInfo:
        """See `Store.copy`."""
        scheme, colon, rest = source_uri.partition("://")
        if colon and scheme != "file":
            raise ConfigError(f"cannot copy {source_uri} to the folder {self.uri}: only from another folder")
        return self.write(key, Path(rest if colon else source_uri))

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        path = self._path(key)
        with faults_at(path):
            if path.is_file():
                with _locked(path.parent):
                    path.unlink(missing_ok=True)
                    _sync_folder(path.parent)

    def _path(self, key: str) -> Path:
        if any(part.startswith(HIDDEN) for part in check_key(key, "surrogateescape").split("/")):
            raise ConfigError(f"{key!r} is not a key: names that start with {HIDDEN} are for files in the making")
        return self.root / key

    def _listed(self, key: str) -> Listed | None:
        """None if it is gone by now."""
        with faults_at(self.root / key):
            try:
                there = (self.root / key).stat()
            except FileNotFoundError:
                return None
        return Listed(key, there.st_size, there.st_ctime_ns / 1e9)

    def _keys(self, prefix: str) -> Iterator[str]:
        folder = prefix.rpartition("/")[0]
        with faults_at(self.root / folder):
            yield from _keys_below(self.root / folder, f"{folder}/" if folder else "", prefix)


@contextmanager
def opened(data: bytes | Path) -> Iterator[BinaryIO]:
    """A reader over `data`; faults are those of the file, unless the block names a nearer cause."""
    if isinstance(data, bytes):
        yield io.BytesIO(data)
        return
    with faults_at(data), data.open("rb") as file:
        yield file


def checksum(source: BinaryIO, copy_to: BinaryIO | None = None) -> tuple[int, int]:
    """Size and crc32c of what is left to read in `source`, which goes to `copy_to` on the way."""
    size = crc32c = 0
    while block := source.read(BLOCK_BYTES):
        size += len(block)
        crc32c = google_crc32c.extend(crc32c, block)
        if copy_to:
            copy_to.write(block)
    return size, crc32c


@contextmanager
def new_file(path: Path, publish: Callable[[Path, Path], None] = os.replace) -> Iterator[BinaryIO]:
    """A file that is on disk under the name `path` once the block ends well; otherwise nothing is left of it."""
    _make_folder(path.parent)
    remove_left_once(path.parent)
    temporary, file = _in_the_making(path.parent)
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            publish(temporary, path)  # while it is held
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _in_the_making(folder: Path) -> tuple[Path, BinaryIO]:
    """A new file under a hidden name, held until it is closed."""
    while True:
        temporary = folder / f"{HIDDEN}{secrets.token_hex(8)}{MAKING}"
        file = temporary.open("xb+")
        if hold(temporary, file.fileno()):
            return temporary, file
        file.close()


@contextmanager
def faults_at(path: Path) -> Iterator[None]:
    """Say what the operating system refused to do, and where."""
    try:
        yield
    except HQClipError:
        raise
    except FileNotFoundError as error:
        raise NotFoundError(f"{error.filename or path}: no such file or folder") from error
    except PermissionError as error:
        user = f"user {os.geteuid()}"
        raise AccessError(f"{error.filename or path}: {error.strerror} for {user}; change its owner or mode") from error
    except OSError as error:
        advice = "; free some space and run again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise StorageError(f"{error.filename or path}: {error.strerror or error}{advice}") from error


def check_range(start: int, length: int | None) -> None:
    """Refuse what is no range of bytes. Raises `ValueError`: it is a bug."""
    if start < 0 or (length is not None and length < 0):
        raise ValueError(f"start {start} and length {length} must not be negative")


def check_prefix(prefix: str) -> None:
    """Refuse prefixes that no key can have. Raises `ConfigError`."""
    folder, slash, _ = prefix.rpartition("/")
    if slash:
        check_key(folder)


def _publish(key: str, source: BinaryIO, path: Path, publish: Callable[[Path, Path], None]) -> ObjectInfo:
    with new_file(path, publish) as file:
        _, crc32c = checksum(source, copy_to=file)
        file.flush()
        # The kernel's own time stamp moves in steps of milliseconds: too coarse to tell two writes apart.
        os.utime(file.fileno(), ns=(time.time_ns(), time.time_ns()))
        return _info(key, file, crc32c)


def _info(key: str, file: BinaryIO, crc32c: int) -> ObjectInfo:
    status = os.fstat(file.fileno())
    return ObjectInfo(key, status.st_size, crc32c, f"{status.st_mtime_ns}-{status.st_ino}-{crc32c:08x}")


def _link(temporary: Path, path: Path) -> None:
    """Give the file its final name; `FileExistsError` if that is taken."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        with _locked(path.parent):
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from error
            temporary.rename(path)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Alone among all that change objects of this folder in place, until the block ends or the process dies."""
    _make_folder(folder)
    with (folder / f"{HIDDEN}lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_folder(folder: Path) -> None:
    missing = [part for part in (folder, *folder.parents) if not part.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConflictError(f"{folder} cannot be a folder: a file is in the way") from error
    for part in missing:
        _sync_folder(part.parent)


def _sync_folder(folder: Path) -> None:
    """Make names given in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keys_below(folder: Path, base: str, prefix: str) -> Iterator[str]:
    """Keys that start with `prefix` in `folder`, whose own key is `base`; in the order of whole keys."""
    try:
        with os.scandir(folder) as entries:
            # `a-b` comes before `a/c` and `a/c` before `a0`: a folder sorts by its name with the slash.
            names = sorted(entry.name + "/" * entry.is_dir() for entry in entries if entry.is_dir() or entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = base + name
        if name.startswith(HIDDEN):
            if is_in_the_making(name.rstrip("/")):
                remove_if_left(folder / name)
            continue
        if not key.startswith(prefix):
            continue
        if name.endswith("/"):
            yield from _keys_below(folder / name, key, prefix)
        else:
            yield key
