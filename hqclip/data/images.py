"""Untrusted image bytes in, pixels out, or the name of what is wrong. Sizes are checked before anything is decoded."""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np
from PIL import Image

MAX_PIXELS = 64_000_000
MAX_SIDE, MIN_SIDE = 16_384, 16
MAX_ASPECT = 8
FORMATS = ("JPEG", "PNG", "WEBP")
Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class ImageFault(Exception):
    """This image cannot be used; `reason` is what it is counted under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def check_header(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, as the header says. Raises `ImageFault`."""
    with _opened(data) as picture:
        return picture.size


def decode(data: bytes) -> Pixels:
    """(height, width, 3) RGB. Transparency is laid on white; only the first picture of an animation counts."""
    with _opened(data) as picture:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return np.asarray(_rgb(picture))
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise ImageFault("damaged_image", str(error)) from error


def _opened(data: bytes) -> Image.Image:
    """The picture with only its header read, within the limits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs: the limits below are stricter; odd EXIF: nobody reads it
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageFault("too_many_pixels", str(error)) from error
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise ImageFault("not_an_image", str(error)) from error
    width, height = picture.size
    size = f"{width} x {height}"
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageFault("too_many_pixels", size)
    if min(width, height) < MIN_SIDE:
        raise ImageFault("too_small", size)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageFault("too_narrow", size)
    return picture


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
