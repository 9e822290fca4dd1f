"""Which LVLM lies in a folder, and how many pixels its image tokens cover: pictures are shrunk before the engine.

An image costs tokens by its area, and defaults allow up to 16,384 of them; 256 are enough for pictures of the web.
Sizes of tokens are those of the models' own processors (Qwen2-VL, Qwen2.5-VL: 28 pixels a side; Qwen3-VL: 32;
InternVL: 448-pixel tiles of 256 tokens; SmolVLM: 512-pixel tiles of 64 tokens).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from hqclip.data.images import Pixels
from hqclip.errors import ConfigError, NotFoundError

MIN_TOKENS = 4  # what Qwen2-VL's processor asks for at least


@dataclass(frozen=True)
class Family:
    """A family of LVLMs: `side` pixels make a token; with `tile` the picture is one square tile of `image_tokens`.

    `processor` is what the model's image processor is told; None: sizes in pixels, as Qwen's processors take them.
    """

    name: str
    side: int
    image_tokens: int = 256
    tile: int = 0
    processor: Mapping[str, Any] | None = None

    def fit(self, image: Pixels, image_tokens: int) -> Pixels:
        """The picture, (height, width, 3), within the budget: shrunk if it must be, never enlarged."""
        height, width = image.shape[:2]
        new_height, new_width = self.size(height, width, image_tokens)
        if (new_height, new_width) == (height, width):
            return image
        picture = Image.fromarray(image).resize((new_width, new_height), Image.Resampling.BICUBIC, reducing_gap=2.0)
        return np.array(picture)

    def size(self, height: int, width: int, image_tokens: int) -> tuple[int, int]:
        """(height, width) in pixels within the budget, in whole tokens where the picture must shrink."""
        if self.tile:
            scale = min(1.0, self.tile / max(height, width))
            return max(1, round(height * scale)), max(1, round(width * scale))
        if self.tokens(height, width) <= image_tokens:
            return height, width
        scale = math.sqrt(image_tokens * self.side**2 / (height * width))
        rows = max(1, math.floor(height * scale / self.side + 1e-9))
        columns = max(1, math.floor(width * scale / self.side + 1e-9))
        return rows * self.side, columns * self.side

    def tokens(self, height: int, width: int) -> int:
        """What a picture of this size costs, rounded to whole tokens as the processors do."""
        if self.tile:
            return self.image_tokens
        return max(MIN_TOKENS, max(1, round(height / self.side)) * max(1, round(width / self.side)))

    def processor_options(self, image_tokens: int) -> dict[str, Any]:
        """What the model's own image processor is told, so that it agrees with the budget."""
        if self.processor is not None:
            return dict(self.processor)
        area = self.side**2
        return {"size": {"shortest_edge": MIN_TOKENS * area, "longest_edge": image_tokens * area}}


_QWEN2, _QWEN3 = Family("Qwen2-VL", 28), Family("Qwen3-VL", 32)
_INTERNVL = Family("InternVL", 28, 256, tile=448, processor={"max_dynamic_patch": 1})
_SMOLVLM = Family("SmolVLM", 64, 64, tile=512, processor={"do_image_splitting": False, "size": {"longest_edge": 512}})
FAMILIES: dict[str, Family] = {
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "internvl": _INTERNVL,
    "internvl_chat": _INTERNVL,
    "smolvlm": _SMOLVLM,
    "idefics3": _SMOLVLM,
}
# Any other model that the engine can serve: the picture is shrunk to an area, its processor does the rest as it likes.
UNKNOWN = Family("other", 28, processor={})


def family_of(model: Path) -> Family:
    """The family of the model in a folder, by its `config.json`.

    Raises `NotFoundError` (no such folder or no model in it) and `ConfigError` (a model that sees no images).
    """
    path = model / "config.json"
    if not path.is_file():
        raise NotFoundError(
            f"{model} holds no model: there is no config.json; give the folder of an LVLM or a hub name"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        kind = str(config["model_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not the config of a model ({error!r}); give the folder of an LVLM") from error
    if not any("vision" in name or "image_token" in name for name in config):
        raise ConfigError(f"{model} is a {kind} model, which sees no images: give a vision-language model")
    return FAMILIES.get(kind, replace(UNKNOWN, name=kind))
