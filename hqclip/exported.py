"""What an exported model is on disk: its files, its digest, and whether they are still what training wrote."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from hqclip.errors import DataError
from hqclip.store import Store
from hqclip.store.documents import read_json
from hqclip.store.local import BLOCK_BYTES

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


def model_digest(config: BinaryIO, weights: BinaryIO) -> str:
    """Names a model by content: the first 16 hexadecimal digits of SHA-256 over config and weights."""
    return hashlib.sha256(_sha256(config) + _sha256(weights)).hexdigest()[:16]


def is_in_store(model: str) -> bool:
    """Whether this names a folder of the store, and not one elsewhere, a model of a hub or one of open_clip."""
    return ":" not in model and not model.startswith("/")


def check_files(store: Store, model: str, digest: str) -> None:
    """Read the whole model and see that it is the one of this digest.

    Raises `NotFoundError`, and `DataError` if it is another one: it was altered or damaged since.
    """
    with store.open(f"{model}/{CONFIG}") as config, store.open(f"{model}/{WEIGHTS}") as weights:
        found = model_digest(config, weights)
    if found != digest:
        raise _altered(store, model, f"it has the digest {found}, not {digest} as when it was judged")


def check_digest(store: Store, model: str, digest: str) -> None:
    """See that a model has the digest that its training run wrote down; a model from elsewhere has no such run.

    Raises `DataError` if it has another one.
    """
    run, slash, _ = model.rpartition("/")
    if not slash or not store.exists(f"{run}/result.json"):
        return
    trained = trained_digest(store, run)
    if digest != trained:
        raise _altered(store, model, f"it has the digest {digest}, not {trained} as {run}/result.json says")


def trained_digest(store: Store, run: str) -> str:
    """The digest of the model that a training run wrote down. Raises `NotFoundError`, `DataError`."""
    key, again = f"{run}/result.json", "bring it back, or train again under another --run"
    digest = read_json(store, key, again).get("model_digest")
    if not isinstance(digest, str) or not digest:
        raise DataError(f"{store.uri}/{key} is damaged: no model_digest; {again}")
    return digest


def _altered(store: Store, model: str, how: str) -> DataError:
    return DataError(
        f"{store.uri}/{model} is not what was trained: {how}; it was altered or damaged: bring it back, or train again "
        "under another --run"
    )


def _sha256(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.digest()
