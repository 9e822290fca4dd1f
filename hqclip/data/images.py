"""Untrusted image bytes in, pixels out, or the name of what is wrong. Sizes are checked before anything is decoded."""

from __future__ import annotations

import io
import struct
import warnings
from typing import Any

import numpy as np
from PIL import ExifTags, Image

MAX_PIXELS = 64_000_000
MAX_SIDE, MIN_SIDE = 16_384, 16
MAX_ASPECT = 8
EXTENSIONS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
TURNS = {  # of EXIF orientations
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
Pixels = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3) RGB


class ImageFault(Exception):
    """This image cannot be used; `reason` is what it is counted under."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def check_header(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels, as the header says: of the picture as it lies. Raises `ImageFault`."""
    with _opened(data) as picture:
        return picture.size


def extension(data: bytes) -> str:
    """What a file of this kind of picture is called: jpg, png or webp. Raises `ImageFault`."""
    with _opened(data) as picture:
        return EXTENSIONS[str(picture.format)]


def decode(data: bytes) -> Pixels:
    """(height, width, 3) of what `decode_picture` gives; a copy, since torch wants to be able to write."""
    return np.array(decode_picture(data))


def decode_picture(data: bytes) -> Image.Image:
    """RGB, upright. Transparency is laid on white; the first picture of an animation counts. Raises `ImageFault`."""
    with _opened(data) as picture:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                picture.load()  # here, where a fault of the pixels is not taken for one of the EXIF
                return _upright(picture, _rgb(picture))
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:
            raise ImageFault("damaged_image", str(error)) from error


def thumbnail(image: bytes, side: int) -> bytes:
    """A JPEG of at most `side` pixels, without what else the file held; empty if it cannot be decoded."""
    try:
        picture = Image.fromarray(decode(image))
    except ImageFault:
        return b""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _opened(data: bytes) -> Image.Image:
    """The picture with only its header read, within the limits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # bombs: the limits below are stricter; odd EXIF: nobody reads it
            picture = Image.open(io.BytesIO(data), formats=tuple(EXTENSIONS))
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


def _upright(picture: Image.Image, pixels: Image.Image) -> Image.Image:
    """`pixels` turned as the EXIF of `picture` says: cameras and telephones store them as the sensor lay."""
    try:
        turn = TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except (OSError, ValueError, SyntaxError, TypeError, KeyError, struct.error):
        return pixels  # the picture is whole, only what is said about it is not
    return pixels.transpose(turn) if turn is not None else pixels
