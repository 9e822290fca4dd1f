"""A model by its name in, the same in the cache of this machine and in a store out: safetensors, configs, tokenizer.

`models/{name}/{revision}/` has the files, and `models/{name}/{revision}.json`, written last, says their SHA-256.
Nothing is overwritten; what an earlier try brought there is read and compared, and the rest is brought.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.errors import ConfigError, ConflictError
from hqclip.models.config import ModelsFetchConfig
from hqclip.models.contents import SAFE, chosen, sha256_of_stream
from hqclip.models.find import Weights, check_mirrored, find, read_files
from hqclip.models.names import HUB
from hqclip.provenance import made_by
from hqclip.records import canonical_json
from hqclip.store import Store, open_store


def run(config: ModelsFetchConfig) -> dict[str, Any]:
    """Fetch, mirror, and say under which name the model can be used. Raises what `find` and stores raise."""
    found = find(config.model)
    weights = found._replace(sha256={file: found.sha256[file] for file in chosen(found.sha256)})
    _check(config.model, weights)
    brought, name = 0, str(weights.folder)
    if config.to:
        store = open_store(config.to)
        key = f"models/{_folder_name(config.model)}/{weights.revision or weights.digest[:16]}"
        brought, name = _mirror(config, weights, store, key), f"{store.uri}/{key}"
    return {
        "model": name,
        "revision": weights.revision,
        "digest": weights.digest,
        "files": len(weights.sha256),
        "size_bytes": sum((weights.folder / file).stat().st_size for file in weights.sha256),
        "brought": brought,
    }


def _check(name: str, weights: Weights) -> None:
    """Raises `ConfigError` for a model without weights that are read."""
    if not any(file.endswith(SAFE) for file in weights.sha256):
        raise ConfigError(
            f"model {name!r} has no weights in safetensors, and others are not fetched, because they can run code; "
            "name a revision that has them, or convert it where you trust it (from_pretrained, then save_pretrained)"
        )


def _mirror(config: ModelsFetchConfig, weights: Weights, store: Store, key: str) -> int:
    """Bring what is missing below `key`; how many files that were. Raises `ConflictError` for what is there instead."""
    told = read_files(store, key)
    if told:
        there = {file: _sha256_in(store, f"{key}/{file}") for file in told}
        check_mirrored(f"{store.uri}/{key}", there, weights.sha256)
        return 0
    brought = 0
    for file in weights.sha256:
        brought += _bring(weights.folder / file, weights.sha256[file], store, f"{key}/{file}")
    about = {
        "model": config.model,
        "revision": weights.revision,
        "digest": weights.digest,
        "model_files": dict(weights.sha256),
        "provenance": made_by("models fetch", config.to_mapping()),
    }
    store.write(f"{key}.json", canonical_json(about), create_only=False)  # of equal content but for who made it
    return brought


def _bring(path: Path, sha256: str, store: Store, key: str) -> bool:
    """Write one file, unless it is there. Raises `ConflictError` if it is there with another content."""
    if store.exists(key):
        if _sha256_in(store, key) != sha256:
            raise ConflictError(f"{store.uri}/{key} exists with other content, and is left alone: delete it, run again")
        return False
    log.info("models", f"{path.name} to {store.uri}/{key}")
    store.write(key, path)
    return True


def _sha256_in(store: Store, key: str) -> str:
    if not store.exists(key):
        return ""
    with store.open(key) as file:
        return sha256_of_stream(file)


def _folder_name(model: str) -> str:
    """`org/name@revision` -> `org--name`; the last part of a folder or URI."""
    name = model.removeprefix(HUB).partition("@")[0].rstrip("/")
    if name.startswith("/") or "://" in name:
        name = name.rpartition("/")[2]
    return re.sub(r"[^\w.-]+", "--", name).strip("-.") or "model"
