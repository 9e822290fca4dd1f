"""Files and folders in the making. A killed process leaves them behind; the next one that comes by removes them.

Their names are hidden, so that none is an object where it lies in a store. Every temporary folder is made here.

Whoever makes one holds a lock on it, which the kernel gives back when the process ends, however that went: what nobody
holds was left behind. Where there are no locks nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

HIDDEN, MAKING = ".hqclip-", ".tmp"  # how the names of what is in the making begin and end
BEFORE = "hqclip-scratch-"  # and how temporary folders of version 0.1 began
_looked: set[tuple[Path, str]] = set()  # at these places, by this process


@contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder for this block, below `parent` or where temporary files go; gone behind it, as are those left there."""
    parent = parent or Path(tempfile.gettempdir())
    remove_left_once(parent, BEFORE)
    folder, descriptor = _held_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def hold(path: Path, descriptor: int) -> bool:
    """Hold what was just made, until it is closed; False if somebody took it for left behind in between."""
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def remove_left_once(folder: Path, before: str = "") -> None:
    """Remove what was left in a folder in the making, and what begins with `before`, the first time that one asks."""
    if (folder, before) in _looked:
        return
    _looked.add((folder, before))
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_in_the_making(entry.name) or (before and entry.name.startswith(before)):
                remove_if_left(Path(entry.path))


def is_in_the_making(name: str) -> bool:
    """Whether files and folders in the making are called so."""
    return name.startswith(HIDDEN) and name.endswith(MAKING)


def remove_if_left(path: Path) -> None:
    """Remove a file or folder in the making, if nobody is making it any more."""
    with suppress(OSError):  # it is held, or gone, or not ours
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _held_folder(parent: Path) -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=HIDDEN, suffix=MAKING, dir=parent))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            if hold(folder, descriptor):
                return folder, descriptor
            os.close(descriptor)
