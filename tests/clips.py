"""What the tests of `hqclip.clip` share: small CLIPs with random weights, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file

from hqclip.exported import CONFIG, WEIGHTS
from hqclip.ranks import GlooGroup, Ranks
from hqclip.records import canonical_json

TOWERS: Mapping[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}
COLOURS = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
SENTENCE = "a small red ring left of a large blue square near the green cross above it"
WORDS = SENTENCE.split()
TEXTS = [" ".join(WORDS[:length]) for length in (3, 14, 1, 7)]


ALONE = Ranks(0, 1, torch.device("cpu"), GlooGroup(1))


def write_clip(folder: Path, towers: Mapping[str, Any] = TOWERS, seed: int = 0, **pixels: Any) -> Path:
    """An export, as `hqclip train` writes it, with random weights."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**towers)
    for name, value in model.named_parameters():
        if name.endswith("bias"):  # zeros at first, which would hide what is left out
            torch.nn.init.normal_(value, std=0.1)
    folder.mkdir(parents=True)
    save_file(model.state_dict(), folder / WEIGHTS)
    (folder / CONFIG).write_bytes(canonical_json({"model_cfg": towers, "preprocess_cfg": {**COLOURS, **pixels}}))
    return folder


def pictures(number: int, seed: int = 0) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """Noise of several sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(32, 70, (number, 2))
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for height, width in sizes]


def random_texts(number: int, seed: int = 0) -> list[str]:
    """Of 1 to 60 words."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 61))) for _ in range(number)]
