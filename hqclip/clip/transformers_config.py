"""The config of an open_clip model in, `config.json` and `preprocessor_config.json` of a CLIPModel out, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import open_clip

from hqclip.errors import ConfigError

START, END = 49406, 49407  # of a text, the last two of CLIP's vocabulary
EPSILON = 1e-5  # of open_clip's layer norms
FILTERS = {"bicubic": 3, "bilinear": 2}  # as PIL numbers them
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


def their_config(ours: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`config.json`. Raises `ConfigError` for what it cannot say."""
    vision, text = ours["vision_cfg"], ours["text_cfg"]
    foreign = [name for name in ours if name not in KNOWN[""]]
    for part in ("vision_cfg", "text_cfg"):
        foreign += [f"{part}.{name}" for name in ours[part] if name not in KNOWN[part]]
    foreign += [f"{name} {vision[name]!r}" for name in ("layers", "image_size") if type(vision.get(name, 0)) is not int]
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
            "bos_token_id": START,
            "eos_token_id": END,
        },
    }


def _their_size(tower: Mapping[str, Any]) -> dict[str, int]:
    wide = int(tower["width"] * tower.get("mlp_ratio", 4.0))
    return {"hidden_size": tower["width"], "intermediate_size": wide, "num_hidden_layers": tower["layers"]}


def their_pictures(config: Mapping[str, Any], where: str) -> dict[str, Any]:
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


def our_config(theirs: Mapping[str, Any], pictures: Mapping[str, Any], where: str) -> dict[str, Any]:
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


def num_layers(theirs: Mapping[str, Any]) -> dict[str, int]:
    """Of both towers, `vision_config` and `text_config`."""
    return {part: {**known, **(theirs.get(part) or {})}["num_hidden_layers"] for part, known in DEFAULTS.items()}
