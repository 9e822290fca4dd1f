"""What goes into the towers: pictures and tokens as they want them, and no more of these than they need."""

from __future__ import annotations

from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from hqclip.data.images import Pixels


def fit(image: Pixels, size: tuple[int, int], interpolation: str = "bicubic", squash: bool = False) -> Tensor:
    """(3, height, width) uint8: the shorter side resized, anti-aliased, then the middle cut out.

    With `squash` each side is resized by itself, and nothing is cut off.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)  # a view: torch resizes three bytes a pixel as they lie fastest
    height, width = size
    if pixels.shape[1:] == size:
        return pixels
    new = size if squash else _covering(pixels.shape[1], pixels.shape[2], size)
    resized = F.interpolate(pixels[None], size=new, mode=interpolation, antialias=True)[0]
    top, left = round((new[0] - height) / 2), round((new[1] - width) / 2)
    return resized[:, top : top + height, left : left + width]


def _covering(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """The size that covers `size` with the sides' ratio kept, rounded as open_clip does: down for a square."""
    scale = max(size[0] / height, size[1] / width)
    if size[0] != size[1]:
        return max(size[0], round(height * scale)), max(size[1], round(width * scale))
    short = min(height, width)
    return size[0] * height // short, size[0] * width // short


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 pictures (B, 3, H, W) as the towers want them; in place, for new memory costs more than the arithmetic."""
    return pixels.float().div_(255).sub_(mean).div_(std)


def encode_text(model: Any, tokens_BL: Tensor) -> Tensor:
    """(B, D) not normalised, as `model.encode_text` gives it, without computing the padding that all texts share.

    In open_clip's classic tower no token sees a later one and the end token speaks for the text, so what follows the
    longest text changes nothing. Other towers get the tokens as they are.
    """
    if not pads_for_nothing(model):
        return cast(Tensor, model.encode_text(tokens_BL))
    ends_B = tokens_BL.argmax(-1)
    length = min(tokens_BL.shape[1], -(-(int(ends_B.max()) + 1) // 8) * 8)
    dtype = model.transformer.get_cast_dtype()
    x_BLW = model.token_embedding(tokens_BL[:, :length]).to(dtype) + model.positional_embedding[:length].to(dtype)
    x_BLW = model.ln_final(model.transformer(x_BLW, attn_mask=model.attn_mask[:length, :length]))
    x_BW = x_BLW[torch.arange(len(x_BLW), device=x_BLW.device), ends_B]
    projection = model.text_projection
    return cast(Tensor, projection(x_BW) if isinstance(projection, torch.nn.Linear) else x_BW @ projection)


def pads_for_nothing(model: Any) -> bool:
    """Whether the text tower is open_clip's classic one, whose end token has the highest number."""
    return isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
