"""Pictures of every kind that a shard may hold, the metadata that comes with them, and files altered at random."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


def encoded(picture: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    """A file of the picture."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, bits: int = 1, colours: int = 0, before: bytes = b"", level: int = 9) -> bytes:
    """A PNG that is black, or of the first colour of its palette, however large; `before` stands before its pixels."""
    layers = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colours]
    header = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    packer = zlib.compressobj(level)
    row = bytes(1 + -(-width * bits * layers // 8))
    pixels = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    return SIGNATURE + chunk(b"IHDR", header) + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def interlaced(pixels: np.ndarray) -> bytes:
    """An RGB PNG in Adam7's seven passes, which Pillow reads but does not write."""
    height, width, _ = pixels.shape
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    rows = [
        b"\0" + row.tobytes()
        for left, top, across, down in passes
        for row in pixels[top::down, left::across]
        if row.size
    ]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1))
    return SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"".join(rows))) + chunk(b"IEND", b"")


def with_scans(jpeg: bytes, number: int) -> bytes:
    """A progressive JPEG whose last scan comes `number` times more."""
    return jpeg[:-2] + jpeg[jpeg.rindex(b"\xff\xda") : -2] * number + jpeg[-2:]


def exif(orientation: int = 1) -> Image.Exif:
    """What a telephone says, with a second directory."""
    said = Image.Exif()
    said[0x0112] = orientation
    said[0x010F] = "a maker of telephones"
    said[0x8769] = {0x9003: "2024:01:01 00:00:00"}
    return said


def pictures() -> dict[str, bytes]:
    """A file of 40 x 24 pixels of every kind, most with metadata."""
    noise = np.random.default_rng(1).integers(0, 256, (3, 5, 4), np.uint8)
    rgba = Image.fromarray(noise).resize((40, 24), Image.Resampling.BILINEAR)
    rgb, grey = rgba.convert("RGB"), rgba.convert("L")
    palette = rgb.quantize(16)
    cmyk = encoded(rgb.convert("CMYK"), "JPEG", icc_profile=b"no profile" * 9)
    said = {"exif": exif(6), "xmp": XMP % 3}
    animation = {"save_all": True, "append_images": [rgb.rotate(180), rgb], "duration": 40}
    return {
        "jpeg": encoded(rgb, "JPEG", **said, comment=b"a comment"),
        "jpeg of 4:4:4": encoded(rgb, "JPEG", subsampling=0, restart_marker_blocks=2),
        "grey jpeg": encoded(grey, "JPEG"),
        "progressive": encoded(rgb, "JPEG", progressive=True, **said),
        "cmyk": cmyk,
        "ycck": cmyk.replace(b"Adobe\0\x64\0\0\0\0\0", b"Adobe\0\x64\0\0\0\0\2"),
        "mpo": encoded(rgb, "MPO", save_all=True, append_images=[rgb, grey], exif=exif(8)),
        "png": encoded(rgb, "PNG", **said, icc_profile=b"no profile" * 9),
        "interlaced": interlaced(np.asarray(rgb)),
        "png of bits": encoded(grey.convert("1")),
        "grey png": encoded(grey, transparency=7),
        "png of 16 bits": encoded(Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)),
        "palette": encoded(palette, bits=4),
        "palette with transparency": encoded(palette, transparency=bytes(range(0, 256, 16))),
        "rgba": encoded(rgba),
        "la": encoded(rgba.convert("LA")),
        "apng": encoded(rgb, **animation),
        "apng with a picture of its own": encoded(rgb, **animation, default_image=True),
        "webp": encoded(rgb, "WEBP", **said),
        "lossless webp": encoded(rgb, "WEBP", lossless=True),
        "webp with transparency": encoded(rgba, "WEBP", icc_profile=b"no profile" * 9),
        "animated webp": encoded(rgb, "WEBP", **animation, **said),
    }


def altered(data: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to three things wrong: bytes, lengths, order, an end; checksums of a PNG often hold."""
    for _ in range(int(rng.integers(1, 4))):
        found = bytearray(data)
        at, to = sorted(rng.integers(0, max(1, len(found) if rng.integers(2) else min(len(found), 160)), 2).tolist())
        what = int(rng.integers(8))
        if what < 3:
            found[at : at + 1] = bytes([rng.integers(256)])
        elif what == 3:
            found[at : at + 4] = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1"][rng.integers(4)]
        elif what == 4:
            del found[at : min(to, at + 40)]
        elif what == 5:
            found[at:at] = found[at:to]
        elif what == 6:
            found[at:at] = rng.bytes(int(rng.integers(1, 12)))
        elif rng.integers(4) == 0:
            del found[to:]
        data = bytes(found)
    return with_checksums(data) if data.startswith(SIGNATURE) and rng.integers(4) else data


def with_checksums(data: bytes) -> bytes:
    """A PNG in which every chunk has the checksum that it should have."""
    mended, at = bytearray(data), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4])
        if end + 4 > len(data):
            break
        mended[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(mended)
