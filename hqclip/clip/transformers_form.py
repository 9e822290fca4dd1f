"""open_clip's classic CLIP, a ViT and its own text tower, as the `CLIPModel` of transformers and back.

The same numbers under other names: transformers keeps three matrices for query, key and value where open_clip has one,
and its projections are transposed. transformers itself is not needed for it.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hqclip.clip.transformers_config import END, START, num_layers, our_config, their_config, their_pictures
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.exported import CONFIG as OPEN_CLIP_CONFIG
from hqclip.exported import WEIGHTS as OPEN_CLIP_WEIGHTS
from hqclip.exported import model_digest
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.store.documents import parse_json

CONFIG, WEIGHTS, PICTURES = "config.json", "model.safetensors", "preprocessor_config.json"
MARKS = {START: "<|startoftext|>", END: "<|endoftext|>"}
VISION, TEXT = "vision_model", "text_model"
OUTSIDE = {  # of the layers: open_clip's name and theirs
    "logit_scale": "logit_scale",
    "visual.class_embedding": f"{VISION}.embeddings.class_embedding",
    "visual.positional_embedding": f"{VISION}.embeddings.position_embedding.weight",
    "visual.conv1.weight": f"{VISION}.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": f"{VISION}.pre_layrnorm.weight",
    "visual.ln_pre.bias": f"{VISION}.pre_layrnorm.bias",
    "visual.ln_post.weight": f"{VISION}.post_layernorm.weight",
    "visual.ln_post.bias": f"{VISION}.post_layernorm.bias",
    "token_embedding.weight": f"{TEXT}.embeddings.token_embedding.weight",
    "positional_embedding": f"{TEXT}.embeddings.position_embedding.weight",
    "ln_final.weight": f"{TEXT}.final_layer_norm.weight",
    "ln_final.bias": f"{TEXT}.final_layer_norm.bias",
}
TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> None:
    """Write a model (`config` is that of an export) so that `CLIPModel` and `CLIPProcessor` load it.

    Raises `ConfigError` where the form does not exist: for a ResNet or a tower of timm, or with another text tower.
    """
    told = their_config(config["model_cfg"], where)
    pictures = their_pictures(config, where)
    theirs = _to_theirs(weights, _layers(told), where)
    (folder / CONFIG).write_bytes(canonical_json(told))
    (folder / PICTURES).write_bytes(canonical_json(pictures))
    save_file(theirs, folder / WEIGHTS, {"format": "pt"})
    (folder / "vocab.json").write_text(json.dumps(_vocabulary(), ensure_ascii=False), encoding="utf-8")
    merges = (" ".join(pair) for pair in open_clip.tokenizer.SimpleTokenizer().bpe_ranks)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    length = told["text_config"]["max_position_embeddings"]
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": MARKS[END]}
    (folder / "tokenizer_config.json").write_bytes(canonical_json(about))


def read(store: Store, key: str, where: str, folder: Path) -> str:
    """Write the CLIPModel under `key` to `folder` as open_clip loads it; the digest of its configs and weights.

    Raises `NotFoundError`, `ConfigError` for a model of another kind, and `DataError` for what is damaged.
    """
    if not store.exists(f"{key}/{WEIGHTS}"):
        raise NotFoundError(f"{where} has a {CONFIG}, but no {WEIGHTS}: save it in safetensors by `save_pretrained`")
    told = _document(store, key, CONFIG, where)
    pictures = _document(store, key, PICTURES, where) if store.exists(f"{key}/{PICTURES}") else {}
    try:
        config = our_config(told, pictures, where)
    except (TypeError, ValueError, AttributeError, KeyError, ZeroDivisionError) as error:
        raise DataError(f"{where}/{CONFIG} is damaged ({error!r}); bring it back") from error
    _check_vocabulary(store, key, where)
    original = folder / WEIGHTS
    store.download(f"{key}/{WEIGHTS}", original)
    about = canonical_json([told, pictures])
    with original.open("rb") as weights:
        digest = model_digest(io.BytesIO(about), weights)
    try:
        ours = _to_ours(load_file(original), _layers(told), where)
    except SafetensorError as error:
        raise DataError(f"{where}/{WEIGHTS} is damaged ({error}); bring it back") from error
    (folder / OPEN_CLIP_CONFIG).write_bytes(canonical_json(config))
    save_file(ours, folder / OPEN_CLIP_WEIGHTS)
    original.unlink()
    return digest


def _layers(theirs: Mapping[str, Any]) -> dict[str, str]:
    """The layers of both towers: open_clip's name and theirs."""
    names = {}
    for ours, tower, part in (("visual.transformer", VISION, "vision_config"), ("transformer", TEXT, "text_config")):
        for number in range(num_layers(theirs)[part]):
            names[f"{ours}.resblocks.{number}"] = f"{tower}.encoder.layers.{number}"
    return names


def _renamed(layers: Mapping[str, str]) -> dict[str, str]:
    """All that is the same tensor in both forms."""
    inside = {
        f"{ours}.{part}.{kind}": f"{theirs}.{name}.{kind}"
        for ours, theirs in layers.items()
        for part, name in LAYER.items()
        for kind in ("weight", "bias")
    }
    return {**OUTSIDE, **inside}


def _joined(layers: Mapping[str, str]) -> dict[str, list[str]]:
    """open_clip's matrices for query, key and value, which are three for transformers."""
    return {
        f"{ours}.attn.in_proj_{kind}": [f"{theirs}.self_attn.{name}_proj.{kind}" for name in "qkv"]
        for ours, theirs in layers.items()
        for kind in ("weight", "bias")
    }


def _to_theirs(ours: Mapping[str, Tensor], layers: Mapping[str, str], where: str) -> dict[str, Tensor]:
    renamed, joined = _renamed(layers), _joined(layers)
    _check_names(ours, {*renamed, *joined, *TRANSPOSED}, where)
    theirs = {name: ours[own].clone() for own, name in renamed.items()}
    theirs |= {name: ours[own].T.contiguous() for own, name in TRANSPOSED.items()}
    for own, names in joined.items():
        theirs |= {name: third.clone() for name, third in zip(names, ours[own].chunk(3), strict=True)}
    return theirs


def _to_ours(theirs: Mapping[str, Tensor], layers: Mapping[str, str], where: str) -> dict[str, Tensor]:
    renamed, joined = _renamed(layers), _joined(layers)
    theirs = {name: value for name, value in theirs.items() if not name.endswith("embeddings.position_ids")}  # counted
    _check_names(
        theirs, {*renamed.values(), *TRANSPOSED.values(), *(n for names in joined.values() for n in names)}, where
    )
    ours = {own: theirs[name] for own, name in renamed.items()}
    ours |= {own: theirs[name].T.contiguous() for own, name in TRANSPOSED.items()}
    return ours | {own: torch.cat([theirs[name] for name in names]) for own, names in joined.items()}


def _check_names(there: Mapping[str, Tensor], wanted: set[str], where: str) -> None:
    """Raises `ConfigError` for weights that are not exactly those of the config."""
    wrong = [f"no {name}" for name in sorted(wanted - set(there))] + [f"{n} too" for n in sorted(set(there) - wanted)]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(f"{where} is no CLIP as its config says: its weights have {', '.join(wrong[:3])}{more}")


def _check_vocabulary(store: Store, key: str, where: str) -> None:
    """Raises `ConfigError` if a tokenizer lies beside the model that is not CLIP's own."""
    known = _vocabulary()
    for file, path in (("vocab.json", ()), ("tokenizer.json", ("model", "vocab"))):
        if not store.exists(f"{key}/{file}"):
            continue
        said: Any = _document(store, key, file, where)
        for name in path:
            said = said.get(name) if isinstance(said, dict) else None
        if said != known:
            raise ConfigError(f"{where}/{file} is another vocabulary than CLIP's; only that is known here")


def _vocabulary() -> dict[str, int]:
    """CLIP's, with the names of both marks as OpenAI gave them; open_clip has others for the same numbers."""
    encoder: dict[str, int] = open_clip.tokenizer.SimpleTokenizer().encoder
    return {MARKS.get(number, word): number for word, number in encoder.items()}


def _document(store: Store, key: str, file: str, where: str) -> dict[str, Any]:
    return parse_json(store.read(f"{key}/{file}"), f"{where}/{file}", "bring it back")
