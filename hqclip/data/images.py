"""Untrusted image bytes in, pixels out, or the name of what is wrong.

Size and cost are checked before anything is decoded: `MAX_PIXELS` and what a decoder needs at once for them.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from hqclip.data.image_files import ImageFile, TooCostlyError, read_image_file

MAX_PIXELS = 64_000_000
MAX_BYTES = 10 * MAX_PIXELS  # of memory for one picture at a time: where a pixel takes more of them, fewer pixels
MAX_SIDE, MIN_SIDE = 16_384, 16
MAX_ASPECT = 8
STRIP = 1 << 20  # pixels converted in one go: a large picture is never there a third time
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
    file = _read(data)
    return file.width, file.height


def extension(data: bytes) -> str:
    """What a file of this kind of picture is called: jpg, png or webp. Raises `ImageFault`."""
    return EXTENSIONS[_read(data).kind]


def decode(data: bytes) -> Pixels:
    """(height, width, 3) of what `decode_picture` gives; a copy, since torch wants to be able to write."""
    picture = decode_picture(data)
    if picture.width * picture.height <= STRIP:
        return np.array(picture)
    pixels = np.empty((picture.height, picture.width, 3), np.uint8)
    for top, strip in _strips(picture):
        pixels[top : top + strip.height] = np.asarray(strip)
    return pixels


def decode_picture(data: bytes) -> Image.Image:
    """RGB, upright. Transparency is laid on white; the first picture of several counts. Raises `ImageFault`.

    Raises `MemoryError` if the machine has too little for a picture within the limits: none of the picture's fault.
    """
    file = _read(data)
    with _its_fault("not_an_image"):
        picture: Image.Image = Image.open(io.BytesIO(b"".join(file.parts)), formats=(file.kind,))
        if picture.size != (file.width, file.height):
            raise ValueError(f"{picture.width} x {picture.height} for its decoder, not {file.width} x {file.height}")
    with _its_fault("damaged_image"):
        picture.load()
        turn = TURNS.get(file.orientation)
        picture = _rgb(picture)  # what it was made from is given back before it is turned
        return picture.transpose(turn) if turn is not None else picture


def thumbnail(image: bytes, side: int) -> bytes:
    """A JPEG of at most `side` pixels, without what else the file held; empty if it cannot be decoded."""
    try:
        picture = decode_picture(image)
    except ImageFault:
        return b""
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82)
    return buffer.getvalue()


def _read(data: bytes) -> ImageFile:
    """What is in the file, within the limits."""
    with _its_fault("not_an_image"):
        file = read_image_file(data)
    _check_size(file)
    return file


def _check_size(file: ImageFile) -> None:
    width, height = file.width, file.height
    size = f"{width} x {height}"
    if width * height > MAX_PIXELS or max(width, height) > MAX_SIDE:
        raise ImageFault("too_many_pixels", size)
    if file.peak > MAX_BYTES:
        raise ImageFault("too_many_pixels", f"{size}, of this kind of {file.kind}, take {file.peak >> 20} MiB")
    if min(width, height) < MIN_SIDE:
        raise ImageFault("too_small", size)
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageFault("too_narrow", size)


@contextmanager
def _its_fault(reason: str) -> Iterator[None]:
    """Whatever decoding raises is a fault of this picture: hostile bytes find exceptions that nobody has listed.

    `MemoryError` is not: what a picture may take was checked, so the machine has too little, and a good picture must
    not be lost for that. Nor are `KeyboardInterrupt` and the like, which no picture causes.
    """
    try:
        yield
    except MemoryError:
        raise
    except TooCostlyError as error:
        raise ImageFault("too_costly", str(error)) from error
    except Exception as error:  # noqa: BLE001 - see above
        raise ImageFault(reason, str(error) or type(error).__name__) from error


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.width * picture.height <= STRIP:
        return _converted(picture)
    whole = Image.new("RGB", picture.size)
    for top, strip in _strips(picture):
        whole.paste(_converted(strip), (0, top))
    return whole


def _strips(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """(top, rows from there on) of a picture."""
    rows = max(1, STRIP // picture.width)
    for top in range(0, picture.height, rows):
        yield top, picture.crop((0, top, picture.width, min(top + rows, picture.height)))


def _converted(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        grey = (np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return picture.convert("RGB")
