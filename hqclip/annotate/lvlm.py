"""Which LVLM lies in a folder, and how many pixels its image tokens cover: pictures are shrunk before the engine.

An image costs tokens by its area, and defaults allow up to 16,384 of them; 256 are enough for pictures of the web.
Qwen's models spend a token on a square of some pixels, InternVL and SmolVLM a fixed number on a square tile, into which
the picture is stretched. The sizes are those in the model's own files; the ones below are the published models'.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from hqclip import foreign
from hqclip.errors import ConfigError, NotFoundError

MIN_TOKENS = 4  # of an image of Qwen's: smaller pictures are enlarged by the processor
ROUNDING = 1e-9  # 7.9999999999 tokens are 8


@dataclass(frozen=True)
class Family:
    """A family of LVLMs: `side` pixels make a token; with `tile` a picture is one tile of `image_tokens` instead.

    `image_tokens` are those of an image unless somebody wants others. `processor` is what the model's own image
    processor is told beside the sizes, `told` which sizes it is told.
    """

    name: str
    side: int = 28
    image_tokens: int = 256
    tile: int = 0
    processor: Mapping[str, Any] | None = None
    told: str = ""

    def fit(self, picture: Image.Image, image_tokens: int) -> Image.Image:
        """The RGB picture within the budget: shrunk if it must be, never enlarged."""
        height, width = self.size(picture.height, picture.width, image_tokens)
        if (width, height) == picture.size:
            return picture
        return picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=2.0)

    def size(self, height: int, width: int, image_tokens: int) -> tuple[int, int]:
        """(height, width) in pixels within the budget, in whole tokens where the picture must shrink."""
        if self.tile:
            return min(height, self.tile), min(width, self.tile)
        if round(height / self.side) * round(width / self.side) <= image_tokens:
            return height, width
        scale = math.sqrt(image_tokens * self.side**2 / (height * width))
        rows = min(max(1, math.floor(height * scale / self.side + ROUNDING)), image_tokens)
        columns = min(max(1, math.floor(width * scale / self.side + ROUNDING)), image_tokens // rows)
        return rows * self.side, columns * self.side

    def processor_options(self, image_tokens: int) -> dict[str, Any]:
        """What the model's own image processor is told, so that it agrees with the budget."""
        options = dict(self.processor or {})
        if self.told == "longest_edge":  # else it enlarges every picture to several tiles before it shrinks it to one
            options["size"] = {"longest_edge": self.tile}
        elif self.told == "area":
            area = self.side**2
            options["size"] = {"shortest_edge": MIN_TOKENS * area, "longest_edge": image_tokens * area}
        return options


_QWEN2, _QWEN3 = Family("Qwen2-VL", 28, told="area"), Family("Qwen3-VL", 32, told="area")
_INTERNVL = Family("InternVL", tile=448)
_SMOLVLM = Family("SmolVLM", image_tokens=64, tile=512, processor={"do_image_splitting": False}, told="longest_edge")
FAMILIES: dict[str, Family] = {
    "qwen2_vl": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen3_vl": _QWEN3,
    "qwen3_vl_moe": _QWEN3,
    "internvl": replace(_INTERNVL, processor={"crop_to_patches": False, "max_patches": 1}),
    "internvl_chat": replace(_INTERNVL, processor={"max_dynamic_patch": 1}),
    "smolvlm": _SMOLVLM,
    "idefics3": replace(_SMOLVLM, name="Idefics3", image_tokens=169, tile=364),
}
# Any other model that the engine can serve: the picture is shrunk to an area, its processor does the rest as it likes.
UNKNOWN = Family("other")


def family_of(model: Path) -> Family:
    """The family of the model in a folder, with the sizes of this very model, by its `config.json`.

    Raises `NotFoundError` (no such folder or no model in it) and `ConfigError` (a model that sees no images).
    """
    path = model / "config.json"
    if not path.is_file():
        raise NotFoundError(
            f"{model} holds no model: there is no config.json; give the folder of an LVLM or a hub name"
        )
    config = _document(path)
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ConfigError(f"{path} is not the config of a model: it names no model_type; give the folder of an LVLM")
    if not any("vision" in name or "image_token" in name for name in config):
        raise ConfigError(f"{model} is a {kind} model, which sees no images: give a vision-language model")
    family = FAMILIES.get(kind, replace(UNKNOWN, name=kind))
    if family.tile:
        return _with_tile(family, config)
    return _within_own_limit(family, model) if family.told else family


def loading(model: Path) -> AbstractContextManager[None]:
    """Around the loading of an LVLM. Raises `ConfigError` for whatever a library raises of its files."""
    failed = f"model {str(model)!r} does not load as an image-text model"
    return foreign.loading(str(model), failed, "fetch it anew, or give another one")


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is no JSON ({error}); fetch the model anew") from error
    if not isinstance(document, Mapping):
        raise ConfigError(f"{path} holds no JSON object; fetch the model anew")
    return document


def _with_tile(family: Family, config: Mapping[str, Any]) -> Family:
    """The family with the tile of this model: how large it is, and how many tokens are made of its patches."""
    vision = _part(config, "vision_config")
    side, patch = int(_first(vision.get("image_size"))), int(_first(vision.get("patch_size")))
    if not 0 < patch <= side:
        return family
    ratio = _first(config.get("downsample_ratio")) or 1 / (_first(config.get("scale_factor")) or 2)
    return replace(family, tile=side, image_tokens=round(side // patch * ratio) ** 2)


def _within_own_limit(family: Family, model: Path) -> Family:
    """The family, with no more image tokens than this model was taught with, if its processor says so."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (model / name).is_file():
            document = _document(model / name)
            processor = _part(document, "image_processor") or document
            limit = _first(_part(processor, "size").get("longest_edge")) or _first(processor.get("max_pixels"))
            if limit:
                tokens = max(MIN_TOKENS, int(limit) // family.side**2)
                return replace(family, image_tokens=min(family.image_tokens, tokens))
    return family


def _part(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """What stands there, if it has names in turn; who loads the model says what is wrong with it otherwise."""
    part = document.get(name)
    return part if isinstance(part, Mapping) else {}


def _first(size: Any) -> float:
    """A length or a limit that a config gives as a number or as [height, width]; 0 if it does not."""
    value = size[0] if isinstance(size, list) and size else size
    return value if isinstance(value, int | float) and 0 < value < math.inf else 0
