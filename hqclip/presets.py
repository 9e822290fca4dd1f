"""Named settings for all stages. Standard library only.

A preset says what a scale needs. Anything can be overridden by name, as in `train.learning_rate`. The four DataComp
scales are those of its benchmark (Gadre et al., 2023).
"""

from __future__ import annotations

from typing import Any

from hqclip.errors import ConfigError
from hqclip.settings import did_you_mean

# The open LVLM of the size that the HQ-CLIP authors fine-tuned; `hqclip annotate compare` measures it against others.
_LVLM: dict[str, Any] = {
    "engine": "vllm",
    "model": "Qwen/Qwen2.5-VL-7B-Instruct@cc594898137f460bfe9f0759e9844b3ce807cfb5",
}


def _datacomp(model: str, samples_seen: int, batch_size: int, **more: Any) -> dict[str, dict[str, Any]]:
    train = {"model": model, "samples_seen": samples_seen, "batch_size": batch_size, **more}
    return {"annotate": dict(_LVLM), "train": train}


_SHAPES: dict[str, dict[str, Any]] = {
    "annotate": {"model": "demo", "prompt": "shapes-1", "batch_size": 256, "max_new_tokens": 320, "threads": 1},
    "score": {"threads": 1, "decode_threads": 1},
    "curate": {"name": "shapes"},
    "train": {
        "model": "shapes",
        "samples_seen": 64_000,
        "batch_size": 64,
        "learning_rate": 2e-3,
        "warmup": 50,
        "weight_decay": 0.1,
        "max_sentences": 1,
        "negative_weight": 2.0,
        "grad_clip": 1.0,
        "precision": "fp32",
        "checkpoint_every": 100,
        "log_every": 20,
        "threads": 1,
        "decode_threads": 1,
    },
    "evaluate": {"threads": 1, "decode_threads": 1},
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "demo": _SHAPES,
    "demo-quick": {**_SHAPES, "train": {**_SHAPES["train"], "samples_seen": 3_200, "checkpoint_every": 20}},
    "small": _datacomp("ViT-B-32", 12_800_000, 4096),
    "medium": _datacomp("ViT-B-32", 128_000_000, 4096),
    "large": _datacomp("ViT-B-16", 1_280_000_000, 8192),
    "xlarge": _datacomp("ViT-L-14", 12_800_000_000, 90_112, learning_rate=1e-3, beta2=0.95, warmup=10_000),
}


def find_preset(name: str) -> dict[str, dict[str, Any]]:
    """What a preset says of each stage. Raises `ConfigError` if there is none of this name."""
    if name not in PRESETS:
        raise ConfigError(f"unknown preset {name!r}{did_you_mean(name, PRESETS)}; one of {', '.join(PRESETS)}")
    return PRESETS[name]
