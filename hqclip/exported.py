"""What an exported model is on disk: its files, its digest, and whether they are still what training wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from fnmatch import fnmatch
from typing import BinaryIO

from hqclip.errors import DataError
from hqclip.records import digest_of
from hqclip.store import Store
from hqclip.store.documents import read_json, read_json_if_there
from hqclip.store.local import BLOCK_BYTES

CONFIG, WEIGHTS, TAGS = "open_clip_config.json", "open_clip_model.safetensors", "tags.json"
TOKENIZER = ("*.json", "*.txt", "*.model")  # what a tokenizer may consist of; none is code
AGAIN = "bring it back, or train again under another --run"


def model_digest(config: BinaryIO, weights: BinaryIO) -> str:
    """Names a model by content: the first 16 hexadecimal digits of SHA-256 over config and weights."""
    return hashlib.sha256(_sha256(config) + _sha256(weights)).hexdigest()[:16]


def tokenizer_files(store: Store, model: str) -> list[str]:
    """What lies beside a model whose tokenizer is not CLIP's own, by name."""
    try:
        config = json.loads(store.read(f"{model}/{CONFIG}"))
        is_own = "hf_tokenizer_name" not in config["model_cfg"]["text_cfg"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []  # whoever loads it says what is wrong
    names = [] if is_own else [key.removeprefix(f"{model}/") for key in store.list(f"{model}/")]
    beside = [name for name in names if "/" not in name and name not in (CONFIG, TAGS)]
    return [name for name in beside if any(fnmatch(name, part) for part in TOKENIZER)]


def tokenizer_digest(files: Iterable[str], open_file: Callable[[str], BinaryIO]) -> str:
    """Names a tokenizer by the names and contents of its files; empty without any, which is CLIP's own."""
    sha256 = {}
    for name in files:
        with open_file(name) as file:
            sha256[name] = _sha256(file).hex()
    return digest_of(sha256) if sha256 else ""


def is_in_store(model: str) -> bool:
    """Whether this names a folder of the store, and not one elsewhere, a model of a hub or one of open_clip."""
    return ":" not in model and not model.startswith("/")


def check_files(store: Store, model: str, digest: str) -> None:
    """Read the whole model and see that it is the one of this digest, and that its tokenizer is that of its training.

    Raises `NotFoundError`, and `DataError` if it is another one: it was altered or damaged since.
    """
    with store.open(f"{model}/{CONFIG}") as config, store.open(f"{model}/{WEIGHTS}") as weights:
        found = model_digest(config, weights)
    if found != digest:
        raise _altered(store, model, f"it has the digest {found}, not {digest} as when it was judged")
    beside = tokenizer_files(store, model)
    check_tokenizer(store, model, tokenizer_digest(beside, lambda name: store.open(f"{model}/{name}")))


def check_tokenizer(store: Store, model: str, digest: str) -> None:
    """See that the tokenizer of a model has the digest that its training run wrote down, as version 0.1 did not.

    Raises `DataError` if it has another one.
    """
    run, slash, _ = model.rpartition("/")
    result = read_json_if_there(store, f"{run}/result.json", AGAIN) if slash else None
    trained = (result or {}).get("tokenizer_digest", digest)
    if digest != trained:
        how = f"its tokenizer has the digest {digest or 'of nothing'}, not {trained} as {run}/result.json says"
        raise _altered(store, model, how)


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
    key = f"{run}/result.json"
    digest = read_json(store, key, AGAIN).get("model_digest")
    if not isinstance(digest, str) or not digest:
        raise DataError(f"{store.uri}/{key} is damaged: no model_digest; {AGAIN}")
    return digest


def _altered(store: Store, model: str, how: str) -> DataError:
    return DataError(f"{store.uri}/{model} is not what was trained: {how}; it was altered or damaged: {AGAIN}")


def _sha256(file: BinaryIO) -> bytes:
    digest = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    return digest.digest()
