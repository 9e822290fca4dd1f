"""A file of a picture in; out the parts of it that make pixels, with its size and what decoding will take.

What is only said about the picture (profiles, texts, previews, further pictures) is left behind unread, but for how the
camera was held: no fault of it condemns the picture, and nothing of it is inflated into memory. Nothing is decoded.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from hqclip.data.orientation import orientation

# A scan of a few bytes goes over the whole picture, a thousand million pixels in 0.6 s: these take 3 s. They are 64
# scans of 64 MP, and more of less; encoders write 10, or 18 of CMYK, and those that search for the smallest file 30.
MAX_PASSED = 64 * 64_000_000  # pixels that all scans of a JPEG go over
SMALL = 1 << 17  # pixels: beginning a scan takes as long as going over them
SHORTEST_SCAN = 11  # bytes
MAX_PARTS = 20_000  # segments or chunks: a picture of 16,384 rows can have a chunk a row
MAX_NAME = 80  # bytes of the name of a text, with its end
MAX_INFLATED = 1 << 20  # bytes of a compressed text that is searched for the orientation

OF_DECODED = 8  # bytes a pixel: the picture as it was decoded, and one turned or converted from it
OF_WEBP = 16  # libwebp keeps two pictures, Pillow a copy and its own
SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_OF_JPEG, XMP_OF_PNG = b"http://ns.adobe.com/xap/1.0/\0", b"XML:com.adobe.xmp"
EXIF_AS_TEXT = b"Raw profile type exif"  # ImageMagick's, before PNG had a chunk for it
OF_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT")
OF_WEBP_PIXELS = (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L")
SAID_IN_VP8X = 0x20 | 0x08 | 0x04  # flags: there is a profile, EXIF, XMP


class TooCostlyError(ValueError):
    """So many scans or parts that reading them would take minutes."""


@dataclass(frozen=True)
class ImageFile:
    """`kind` is Pillow's name of the format; `peak` bytes are needed at once to decode the picture.

    `parts` follow each other in a file without metadata.
    """

    kind: str
    parts: Sequence[bytes | memoryview]
    width: int
    height: int
    orientation: int
    peak: int


def read_image_file(data: bytes) -> ImageFile:
    """The file without metadata. Raises `ValueError` for what is no JPEG, PNG or WebP of a kind that can be decoded.

    Also for one cut off before its pixels; `TooCostlyError` where it has more scans or parts than any encoder writes.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg(data)
    if data.startswith(SIGNATURE):
        return _png(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp(data)
    raise ValueError("neither JPEG, PNG nor WebP")


# JPEG: ITU-T T.81, annex B. Bytes between segments mean nothing; below 0xC0, and of restarts, there are no segments.
_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_START_OF_SCAN = re.compile(rb"\xff\xda")
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14, _APP15, _COM = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def _jpeg(data: bytes) -> ImageFile:
    view = memoryview(data)
    kept, exif, xmp = [view[:2]], [], b""
    frame, marker, start, end = b"", 0, 0, 0
    progressive = False
    for marker, start, end in _segments(data, 2):
        if marker == _SOS:
            break
        if marker in _FRAMES:
            frame, progressive = data[start + 4 : end], marker in _PROGRESSIVE
        if marker == _APP1 and data.startswith(b"Exif\0\0", start + 4, end):
            exif.append(view[start + 10 : end])  # one that is too long for a segment goes on in the next
        elif marker == _APP1 and data.startswith(XMP_OF_JPEG, start + 4, end):
            xmp = data[start + 4 + len(XMP_OF_JPEG) : end]
        if not _APP0 <= marker <= _APP15 and marker != _COM or _says_colours(marker, data[start + 4 : end]):
            kept.append(view[start:end])
    if marker != _SOS or len(frame) < 6 or len(frame) < 6 + 3 * frame[5]:
        raise ValueError("a JPEG without a picture")
    depth, height, width, layers = struct.unpack(">BHHB", frame[:6])
    if depth != 8 or layers not in (1, 3, 4):
        raise ValueError(f"a JPEG of {layers} layers of {depth} bits")
    of_pixel = OF_DECODED
    if progressive or data[start + 4 : start + 5] < frame[5:6]:  # coefficients are kept until the last scan
        _refuse_many_scans(data, start, MAX_PASSED // max(width * height, SMALL))
        of_pixel = max(of_pixel, 4 + 2 * _samples(frame))
    kept.append(view[start:])  # with all that follows: further scans, and what no decoder reads
    held = orientation(b"".join(exif), xmp)
    return ImageFile("JPEG", kept, width, height, held, of_pixel * width * height)


def _segments(data: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(marker, start, end) of each, until the picture ends. Raises `ValueError` for one that is cut off."""
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None or data[found.end() - 1] == _EOI:
            return
        marker, start = data[found.end() - 1], found.start()
        at = start + 2
        if marker != _SOI:
            at += int.from_bytes(data[at : at + 2])
            if not start + 4 <= at <= len(data):
                raise ValueError("cut off in a segment")
            yield marker, start, at
    raise TooCostlyError(f"more than {MAX_PARTS} segments")


def _says_colours(marker: int, body: bytes) -> bool:
    """Whether a decoder takes the colour space from this segment."""
    return (marker == _APP0 and body.startswith(b"JFIF\0") and len(body) >= 14) or (
        marker == _APP14 and body.startswith(b"Adobe") and len(body) >= 12
    )


def _samples(frame: bytes) -> int:
    """How many a pixel, rounded up: 3 of 4:4:4, 2 of 4:2:0."""
    factors = [(byte >> 4, byte & 15) for byte in frame[7 : 6 + 3 * frame[5] : 3]]
    largest = max(across for across, _ in factors) * max(down for _, down in factors)
    return -(-sum(across * down for across, down in factors) // max(largest, 1))


def _refuse_many_scans(data: bytes, first: int, most: int) -> None:
    """Raises `TooCostlyError`. What looks like a scan may lie within a segment or behind the picture."""
    if len(data) - first <= most * SHORTEST_SCAN:
        return
    if sum(1 for _ in islice(_START_OF_SCAN.finditer(data, first), most + 1)) <= most:
        return
    scans = 0
    for marker, _, _ in _segments(data, first):
        scans += marker == _SOS
        if scans > most:
            raise TooCostlyError(f"more than {most} scans")


# PNG: W3C Recommendation, third edition, sections 5 and 11
DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # bits by kind of colour


def _png(data: bytes) -> ImageFile:
    view = memoryview(data)
    kept: list[bytes | memoryview] = [SIGNATURE]
    header, exif, has_pixels = b"", b"", False
    said = {XMP_OF_PNG: b"", EXIF_AS_TEXT: b""}
    for kind, start, end in _chunks(data, 8, big_endian=True):
        if kind in OF_PNG_PIXELS:
            header = header or (data[start + 4 : end] if kind == b"IHDR" else b"")
            has_pixels = has_pixels or kind == b"IDAT"
            if end - start > 12:  # empty ones are as many as somebody likes
                kept.append(view[start:end])
        elif kind == b"eXIf":
            exif = data[start + 8 : end - 4]
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            name = data[start + 8 : start + 8 + MAX_NAME].partition(b"\0")[0]
            if name in said:
                said[name] = kind + data[start + 9 + len(name) : end - 4]
        elif kind == b"IEND":
            kept.append(view[start:end])
    if not has_pixels or len(header) < 21 or zlib.crc32(header[:-4]).to_bytes(4) != header[-4:]:
        raise ValueError("a PNG without pixels or header")
    width, height, depth, colours, _, filters = struct.unpack(">IIBBBB", header[4:16])
    if depth not in DEPTHS.get(colours, ()) or filters:
        raise ValueError(f"a PNG of kind {colours} with {depth} bits and filters {filters}")
    held = orientation(exif or _from_hexadecimal(_text(said[EXIF_AS_TEXT])), _text(said[XMP_OF_PNG]))
    return ImageFile("PNG", kept, width, height, held, OF_DECODED * width * height)


def _chunks(data: bytes, at: int, *, big_endian: bool) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each: of PNG, with a checksum, or of RIFF, padded to even lengths. The last may be cut."""
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        if big_endian:
            length, kind = struct.unpack_from(">I4s", data, at)
            end = at + length + 12
        else:
            kind, length = struct.unpack_from("<4sI", data, at)
            end = at + 8 + length + length % 2
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise TooCostlyError(f"more than {MAX_PARTS} chunks")


def _text(chunk: bytes) -> bytes:
    """The text behind the name in a chunk, with its kind in front; empty if it is damaged, cut if it is long."""
    kind, rest = chunk[:4], chunk[4:]
    if kind == b"zTXt":
        return _inflated(rest[1:])
    if kind == b"iTXt":
        text = rest[2:].split(b"\0", 2)[-1]  # behind language and translated name
        return _inflated(text) if rest[:1] != b"\0" else text
    return rest


def _inflated(data: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, MAX_INFLATED)
    except zlib.error:
        return b""


def _from_hexadecimal(text: bytes) -> bytes:
    """What ImageMagick writes: an empty line, the kind, the length, then the bytes."""
    try:
        return bytes.fromhex(b"".join(text.split(b"\n")[3:]).decode("ascii"))
    except ValueError:
        return b""


# WebP: RFC 9649, section 2.7
def _webp(data: bytes) -> ImageFile:
    kept: dict[bytes, bytes] = {}
    said = {b"EXIF": b"", b"XMP ": b""}
    data = data[: 8 + int.from_bytes(data[4:8], "little")]
    for kind, start, end in _chunks(data, 12, big_endian=False):
        if kind in OF_WEBP_PIXELS and kind not in kept:  # the first picture of an animation
            if start + 8 + int.from_bytes(data[start + 4 : start + 8], "little") > len(data):
                raise ValueError("cut off in its pixels")
            kept[kind] = data[start:end].ljust(end - start, b"\0")  # the last may lack its padding
        elif kind in said:
            said[kind] = data[start + 8 : end]
        if kind in (b"VP8 ", b"VP8L") and b"VP8X" not in kept:
            break
    width, height = _webp_size(kept)
    if b"VP8X" in kept:
        extended = kept[b"VP8X"]
        kept[b"VP8X"] = extended[:8] + bytes([extended[8] & ~SAID_IN_VP8X]) + extended[9:]
    parts = (b"RIFF", struct.pack("<I", 4 + sum(map(len, kept.values()))), b"WEBP", *kept.values())
    held = orientation(said[b"EXIF"], said[b"XMP "])
    return ImageFile("WEBP", parts, width, height, held, OF_WEBP * width * height)


def _webp_size(chunks: dict[bytes, bytes]) -> tuple[int, int]:
    """(width, height) of the canvas, or of a picture without one."""
    kind = next(iter(chunks), b"")
    chunk = chunks.get(kind, b"")
    if kind == b"VP8X" and len(chunk) >= 18 and {b"VP8 ", b"VP8L", b"ANMF"} & chunks.keys():
        return 1 + int.from_bytes(chunk[12:15], "little"), 1 + int.from_bytes(chunk[15:18], "little")
    if kind == b"VP8 " and len(chunk) >= 18 and chunk[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", chunk, 14)
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L" and len(chunk) >= 13 and chunk[8] == 0x2F:
        bits = int.from_bytes(chunk[9:13], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    raise ValueError("a WebP without a picture")
