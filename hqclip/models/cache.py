"""The name of some content in, a folder with it out: filled by one of all processes that want it, for all of them.

It is a folder of the node, or a volume that many nodes share (`HQCLIP_MODELS`). Who fills an entry holds a lock on it,
which the kernel gives back when the process ends, however that went: the next one goes on with what is there. An entry
gets its name only when it is whole, and bears the SHA-256 of its files, by which it is checked whenever it is used.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from hqclip import log
from hqclip.models.contents import chosen, sha256_of_all
from hqclip.store.leftovers import HIDDEN
from hqclip.store.local import faults_at, new_file

PLACE = "HQCLIP_MODELS"
FILES, RECORD = "files", "fetched.json"


class Kept(NamedTuple):
    """A folder of this machine, and the SHA-256 of its files by name."""

    folder: Path
    sha256: dict[str, str]


def place() -> Path:
    """Where models are kept on this machine."""
    return Path(os.environ.get(PLACE) or "~/.cache/hqclip/models").expanduser().absolute()


def kept(key: str, fill: Callable[[Path], None]) -> Kept:
    """What `key` stands for; `fill` brings its files into a folder, in which those of an earlier try may lie.

    Raises what `fill` raises; `AccessError` and `StorageError` for a place that cannot be written to or has no locks.
    """
    entry = place() / _name_of(key)
    return _look(entry) or _fill(entry, key, fill)


def _fill(entry: Path, key: str, fill: Callable[[Path], None]) -> Kept:
    with faults_at(entry):
        entry.parent.mkdir(parents=True, exist_ok=True)
        with _locked(entry.parent / f"{HIDDEN}{entry.name}.lock", key):
            found = _look(entry)
            if found:
                return found
            if entry.exists():
                log.warning("models", f"{entry} is not what was fetched: it is removed, and fetched anew")
                shutil.rmtree(entry)
            making = entry.parent / f"{HIDDEN}{entry.name}"
            (making / FILES).mkdir(parents=True, exist_ok=True)
            log.info("models", f"fetching {key} into {entry.parent}")
            fill(making / FILES)
            _leave_only_files(making / FILES)
            sha256 = sha256_of_all(making / FILES)
            with new_file(making / RECORD) as record:
                record.write(json.dumps({"what": key, "sha256": sha256}, indent=1).encode())
            making.rename(entry)
            return Kept(entry / FILES, sha256)


def _look(entry: Path) -> Kept | None:
    """The entry if it is there and its files are those that were fetched."""
    try:
        recorded = json.loads((entry / RECORD).read_bytes())["sha256"]
        there = sha256_of_all(entry / FILES) if entry.is_dir() else {}
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        return None
    return Kept(entry / FILES, there) if there and there == recorded else None


def _leave_only_files(folder: Path) -> None:
    """Take away what a client keeps for itself, and what belongs to no model."""
    names = set(chosen(path.name for path in folder.iterdir() if path.is_file()))
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in names:
            path.unlink()


@contextmanager
def _locked(path: Path, key: str) -> Iterator[None]:
    """Alone among all who want this entry, until the block ends or the process dies."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("models", f"another process is fetching {key}: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _name_of(key: str) -> str:
    """`org/name@commit` -> `org--name--commit`."""
    return re.sub(r"[^\w.-]+", "--", key)
