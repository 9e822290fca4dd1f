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

from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.exported import CONFIG as OPEN_CLIP_CONFIG
from hqclip.exported import WEIGHTS as OPEN_CLIP_WEIGHTS
from hqclip.exported import model_digest
from hqclip.records import canonical_json
from hqclip.store import Store
from hqclip.store.documents import parse_json

CONFIG, WEIGHTS, PICTURES = "config.json", "model.safetensors", "preprocessor_config.json"
END = 49407  # of a text, in CLIP's vocabulary of 49408
EPSILON = 1e-5  # of open_clip's layer norms
FILTERS = {"bicubic": 3, "bilinear": 2}  # as PIL numbers them
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
DEFAULTS: dict[str, dict[str, Any]] = {  # what transformers takes for what a config leaves out
    "vision_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_channels": 3,
        "image_size": 224,
        "patch_size": 32,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": EPSILON,
    },
    "text_config": {
        "vocab_size": END + 1,
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": EPSILON,
        "eos_token_id": END,
    },
}
FIXED: dict[
    str, dict[str, tuple[Any, ...]]
] = {  # what open_clip's towers leave no choice of; transformers calls the end 2 in models of before 2023
    "vision_config": {"num_channels": (3,), "layer_norm_eps": (EPSILON,)},
    "text_config": {"vocab_size": (END + 1,), "eos_token_id": (END, 2), "layer_norm_eps": (EPSILON,)},
}
KNOWN = {  # of a config of open_clip: all that this form can say
    "": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale"},
    "vision_cfg": {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio", "patch_dropout"},
    "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
}


def write(folder: Path, config: Mapping[str, Any], weights: Mapping[str, Tensor], where: str) -> None:
    """Write a model (`config` is that of an export) so that `CLIPModel` and `CLIPProcessor` load it.

    Raises `ConfigError` where the form does not exist: for a ResNet or a tower of timm, or with another text tower.
    """
    told = _their_config(config["model_cfg"], where)
    pictures = _their_pictures(config, where)
    theirs = _to_theirs(weights, _layers(told), where)
    (folder / CONFIG).write_bytes(canonical_json(told))
    (folder / PICTURES).write_bytes(canonical_json(pictures))
    save_file(theirs, folder / WEIGHTS, {"format": "pt"})
    tokenizer = open_clip.tokenizer.SimpleTokenizer()
    (folder / "vocab.json").write_text(json.dumps(tokenizer.encoder, ensure_ascii=False), encoding="utf-8")
    merges = (" ".join(pair) for pair in tokenizer.bpe_ranks)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    length = told["text_config"]["max_position_embeddings"]
    about = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length, "pad_token": "<|endoftext|>"}
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
        config = _our_config(told, pictures, where)
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


def _their_config(ours: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`config.json`. Raises `ConfigError` for what it cannot say."""
    vision, text = ours["vision_cfg"], ours["text_cfg"]
    foreign = [name for name in ours if name not in KNOWN[""]]
    for part in ("vision_cfg", "text_cfg"):
        foreign += [f"{part}.{name}" for name in ours[part] if name not in KNOWN[part]]
    foreign += [f"{name} {vision[name]!r}" for name in ("layers", "image_size") if type(vision[name]) is not int]
    if text.get("vocab_size", END + 1) != END + 1:
        foreign.append(f"vocab_size {text['vocab_size']!r}")
    if foreign:
        raise ConfigError(
            f"{where} has no form as a CLIPModel of transformers, which is a ViT with CLIP's own text tower: "
            f"{', '.join(foreign)}; load it with open_clip"
        )
    both = {
        "hidden_act": "quick_gelu" if ours.get("quick_gelu") else "gelu",
        "layer_norm_eps": EPSILON,
        "projection_dim": ours["embed_dim"],
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": ours["embed_dim"],
        "vision_config": {
            **both,
            **_their_size(vision),
            "model_type": "clip_vision_model",
            "num_attention_heads": vision["width"] // vision.get("head_width", 64),
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
        "text_config": {
            **both,
            **_their_size(text),
            "model_type": "clip_text_model",
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": END + 1,
            "bos_token_id": END - 1,
            "eos_token_id": END,
        },
    }


def _their_size(tower: Mapping[str, Any]) -> dict[str, int]:
    wide = int(tower["width"] * tower.get("mlp_ratio", 4.0))
    return {"hidden_size": tower["width"], "intermediate_size": wide, "num_hidden_layers": tower["layers"]}


def _their_pictures(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`preprocessor_config.json`."""
    pixels, size = config["preprocess_cfg"], config["model_cfg"]["vision_cfg"]["image_size"]
    if pixels.get("resize_mode", "shortest") != "shortest":
        raise ConfigError(f"{where}: a CLIPModel of transformers has no resize_mode {pixels['resize_mode']!r}")
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": FILTERS[pixels.get("interpolation", "bicubic")],
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": pixels["mean"],
        "image_std": pixels["std"],
        "do_convert_rgb": True,
    }


def _our_config(theirs: Mapping[str, Any], pictures: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`open_clip_config.json`. Raises `ConfigError` for a model that open_clip cannot be."""
    if theirs.get("model_type") != "clip":
        raise ConfigError(
            f"{where} is a {theirs.get('model_type')!r} of transformers; only its CLIPModel is known here"
        )
    parts = {name: {**defaults, **(theirs.get(name) or {})} for name, defaults in DEFAULTS.items()}
    vision, text = parts["vision_config"], parts["text_config"]
    odd = [
        f"{part}.{n} {parts[part][n]!r}" for part in FIXED for n, ok in FIXED[part].items() if parts[part][n] not in ok
    ]
    if vision["hidden_act"] != text["hidden_act"] or text["hidden_act"] not in ("gelu", "quick_gelu"):
        odd.append(f"hidden_act {vision['hidden_act']!r} and {text['hidden_act']!r}")
    odd += [f"vision_config.{n} {vision[n]!r}" for n in ("image_size", "patch_size") if type(vision[n]) is not int]
    if odd:
        raise ConfigError(f"{where} is no CLIPModel that open_clip can be: {', '.join(odd)}")
    filters = {number: name for name, number in FILTERS.items()}
    return {
        "model_cfg": {
            "embed_dim": theirs.get("projection_dim", 512),
            "quick_gelu": text["hidden_act"] == "quick_gelu",
            "vision_cfg": {
                **_our_size(vision),
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            },
            "text_cfg": {
                **_our_size(text),
                "heads": text["num_attention_heads"],
                "context_length": text["max_position_embeddings"],
                "vocab_size": text["vocab_size"],
            },
        },
        "preprocess_cfg": {
            "mean": pictures.get("image_mean", list(open_clip.OPENAI_DATASET_MEAN)),
            "std": pictures.get("image_std", list(open_clip.OPENAI_DATASET_STD)),
            "interpolation": filters.get(pictures.get("resample", FILTERS["bicubic"]), pictures.get("resample")),
            "resize_mode": "shortest" if "shortest_edge" in _size(pictures) else "squash",
        },
    }


def _our_size(tower: Mapping[str, Any]) -> dict[str, Any]:
    width = tower["hidden_size"]
    return {"width": width, "layers": tower["num_hidden_layers"], "mlp_ratio": tower["intermediate_size"] / width}


def _size(pictures: Mapping[str, Any]) -> Mapping[str, Any]:
    """What pictures are resized to; a number is that of the shorter side, as it was written before 2022."""
    size = pictures.get("size", 224)
    return size if isinstance(size, dict) else {"shortest_edge": size}


def _layers(theirs: Mapping[str, Any]) -> dict[str, str]:
    """The layers of both towers: open_clip's name and theirs."""
    names = {}
    for ours, tower, part in (("visual.transformer", VISION, "vision_config"), ("transformer", TEXT, "text_config")):
        for number in range({**DEFAULTS[part], **theirs.get(part, {})}["num_hidden_layers"]):
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
    known = open_clip.tokenizer.SimpleTokenizer().encoder
    for file, path in (("vocab.json", ()), ("tokenizer.json", ("model", "vocab"))):
        if not store.exists(f"{key}/{file}"):
            continue
        said: Any = _document(store, key, file, where)
        for name in path:
            said = said.get(name) if isinstance(said, dict) else None
        if said != known:
            raise ConfigError(f"{where}/{file} is another vocabulary than CLIP's; only that is known here")


def _document(store: Store, key: str, file: str, where: str) -> dict[str, Any]:
    return parse_json(store.read(f"{key}/{file}"), f"{where}/{file}", "bring it back")
