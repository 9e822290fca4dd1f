"""What a user calls a model in, a folder that open_clip loads and a digest out.

- `runs/x/model`: a folder in the store; `/folder`, `gs://bucket/folder`: one that is elsewhere. It is an export of
  `hqclip train`, or a CLIPModel of transformers.
- `hf-hub:org/name`, `hf-hub:org/name@revision`: one of the two on the Hugging Face hub.
- `ViT-B-32:laion2b_s34b_b79k`: a model of open_clip and the tag of its pretrained weights.

Weights are read from safetensors alone: other files could run code of their author.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import open_clip

from hqclip.clip import transformers_form
from hqclip.errors import ConfigError, NotFoundError
from hqclip.exported import (
    CONFIG,
    WEIGHTS,
    check_digest,
    check_tokenizer,
    is_in_store,
    model_digest,
    tokenizer_digest,
    tokenizer_files,
)
from hqclip.foreign import translated
from hqclip.models.find import find
from hqclip.models.names import HUB
from hqclip.records import canonical_json
from hqclip.settings import did_you_mean
from hqclip.store import Store, open_store, split_uri
from hqclip.store.leftovers import scratch_folder

AGAIN = "bring it back, or export the model again"


class ModelFiles(NamedTuple):
    """A folder with config and weights in open_clip's form, where they come from, and whose the tokenizer is.

    `tokenizer` is a name for open_clip; empty is the folder's own.
    """

    folder: Path
    digest: str
    where: str
    tokenizer: str = ""


@contextmanager
def model_files(store: Store, name: str) -> Iterator[ModelFiles]:
    """The files of a model, for the time of this block.

    Raises `NotFoundError`, `DataError` for what is damaged, `ConfigError` for what is no CLIP that open_clip knows, and
    what a hub raises.
    """
    with scratch_folder() as folder:
        if name.startswith(HUB):
            fetched = find(name).folder
            yield _from_folder(open_store(str(fetched.parent)), fetched.name, name, folder)
        elif is_in_store(name):
            yield _from_folder(store, name, f"{store.uri}/{name}", folder)
        elif "://" in name or name.startswith("/"):
            parent, key = split_uri(name.rstrip("/"))
            yield _from_folder(open_store(parent), key, name, folder)
        else:
            yield _pretrained(name, folder)


def _from_folder(store: Store, key: str, where: str, folder: Path) -> ModelFiles:
    """An export, or a CLIPModel made one."""
    if store.exists(f"{key}/{CONFIG}") and store.exists(f"{key}/{WEIGHTS}"):
        beside = tokenizer_files(store, key)
        for file in (CONFIG, WEIGHTS, *beside):
            store.download(f"{key}/{file}", folder / file)
        with (folder / CONFIG).open("rb") as config, (folder / WEIGHTS).open("rb") as weights:
            digest = model_digest(config, weights)
        check_digest(store, key, digest)
        check_tokenizer(store, key, tokenizer_digest(beside, lambda name: (folder / name).open("rb")))
        return ModelFiles(folder, digest, where)
    if store.exists(f"{key}/{transformers_form.CONFIG}"):
        return ModelFiles(folder, transformers_form.read(store, key, where, folder), where)
    raise NotFoundError(
        f"{where} holds no exported model and no CLIPModel of transformers; "
        '`hqclip train` prints the folder of its export as "model"'
    )


def _pretrained(name: str, folder: Path) -> ModelFiles:
    """A model of open_clip with a tag."""
    architecture, _, tag = name.partition(":")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not tags:
        hint = did_you_mean(architecture, open_clip.list_models()) or "; `open_clip.list_pretrained()` has their names"
        raise NotFoundError(f"{name}: open_clip has no pretrained model {architecture!r}{hint}")
    told = open_clip.get_pretrained_cfg(architecture, tag)
    if not told:
        raise NotFoundError(
            f"{name}: {architecture} has no tag {tag!r}{did_you_mean(tag, tags)}; known: {', '.join(tags)}"
        )
    towers = open_clip.get_model_config(architecture)
    if bool(told.get("quick_gelu")) != bool(towers.get("quick_gelu")):
        other = architecture.removesuffix("-quickgelu") + "-quickgelu" * bool(told.get("quick_gelu"))
        raise ConfigError(f"{name}: these weights were trained with another GELU; give {other}:{tag}")
    with translated(name):
        weights = Path(open_clip.download_pretrained(told))
    if weights.suffix != ".safetensors":
        raise ConfigError(f"{name}: its weights are a {weights.suffix}, which could run code; choose others")
    pixels = {key: told[key] for key in ("mean", "std", "interpolation", "resize_mode") if key in told}
    (folder / CONFIG).write_bytes(canonical_json({"model_cfg": towers, "preprocess_cfg": pixels}))
    (folder / WEIGHTS).symlink_to(weights.resolve())
    with (folder / CONFIG).open("rb") as config, (folder / WEIGHTS).open("rb") as file:
        return ModelFiles(folder, model_digest(config, file), name, architecture)
