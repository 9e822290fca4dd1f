"""The files of a model in, what identifies their content out.

Of a model only what its digest covers is taken: weights in safetensors, configs and tokenizer. Other weights are
pickles or of no use, and code of its author is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from hqclip.store.local import BLOCK_BYTES, faults_at

SAFE = ".safetensors"
COVERED = (".json", SAFE, ".jinja", ".txt", ".model")
OPEN_CLIP = {"open_clip_config.json", "open_clip_model.safetensors"}  # beside them, other weights are the same again
CONFIGS = ("config.json", "open_clip_config.json")


def chosen(names: Iterable[str]) -> list[str]:
    """Those of the names, relative to the model's folder, that belong to the model; the config last.

    A folder in which only some of them are yet is so never taken for a model.
    """
    covered = {name for name in names if "/" not in name and Path(name).suffix in COVERED}
    if covered >= OPEN_CLIP:
        covered = {name for name in covered if not name.endswith(SAFE) or name in OPEN_CLIP}
    return sorted(covered, key=lambda name: (name in CONFIGS, name))


def is_whole(folder: Path) -> bool:
    """Whether a folder has a config, and weights: all that an index of them names, if there is one."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    needed = set()
    for index in names:
        if index.endswith(f"{SAFE}.index.json"):
            with suppress(ValueError, TypeError, KeyError, AttributeError):  # who reads the weights says what is wrong
                needed |= {str(name) for name in json.loads((folder / index).read_bytes())["weight_map"].values()}
    weights = {name for name in names if name.endswith(SAFE)}
    return bool(weights) and needed <= names and any(config in names for config in CONFIGS)


def sha256_of(path: Path) -> str:
    """Of a file, hexadecimal."""
    with faults_at(path), path.open("rb") as file:
        return sha256_of_stream(file)


def sha256_of_stream(file: BinaryIO) -> str:
    """Of what is left to read, hexadecimal."""
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.hexdigest()


def sha256_of_all(folder: Path) -> dict[str, str]:
    """SHA-256 by name, hexadecimal, of what a model's digest covers."""
    with faults_at(folder):
        paths = sorted(path for path in folder.iterdir() if path.suffix in COVERED)
    return {path.name: sha256_of(path) for path in paths}


def digest_of_files(sha256: Mapping[str, str]) -> str:
    """SHA-256 over the names and contents of the files that make a model, by `sha256_of_all`; not its README."""
    total = hashlib.sha256()
    for name in sorted(sha256):
        total.update(name.encode())
        total.update(bytes.fromhex(sha256[name]))
    return total.hexdigest()


def folder_digest(folder: Path) -> str:
    """What identifies the model in a folder."""
    return digest_of_files(sha256_of_all(folder))
