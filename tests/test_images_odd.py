"""Pictures of every kind in odd or hostile files: metadata is not the picture, faults have names, work is bounded."""

from __future__ import annotations

import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from hqclip.data import images
from hqclip.data.images import ImageFault, check_header, decode, decode_picture, extension, thumbnail
from hqclip.data.orientation import orientation
from tests.odd_pictures import (
    SIGNATURE,
    XMP,
    altered,
    chunk,
    encoded,
    exif,
    interlaced,
    pictures,
    png,
    with_checksums,
    with_scans,
)

INFLATES = zlib.compress(b"<xmp>" + b"0123456789" * 200_000)
KINDS = pictures()
PLAIN = encoded(Image.new("RGB", (32, 32), (215, 40, 40)), "JPEG")


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    noise = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return Image.fromarray(noise).resize((64, 48), Image.Resampling.BILINEAR)


def refused(data: bytes, look: Callable[[bytes], object] = decode) -> str:
    with pytest.raises(ImageFault) as fault:
        look(data)
    return fault.value.reason


def segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2) + body


# ---- metadata

PNG_METADATA = {
    "zTXt that inflates": chunk(b"zTXt", b"Raw profile\0\0" + INFLATES),
    "iTXt that inflates": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + INFLATES),
    "iCCP that inflates": chunk(b"iCCP", b"profile\0\0" + INFLATES),
    "iCCP of an unknown method": chunk(b"iCCP", b"profile\0\7" + INFLATES),
    "iCCP without a name": chunk(b"iCCP", b"profile"),
    "empty iCCP": chunk(b"iCCP", b""),
    "zTXt of an unknown method": chunk(b"zTXt", b"key\0\7text"),
    "texts without end": chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 20))) * 80,
    "a checksum that is wrong": chunk(b"tEXt", b"key\0text")[:-4] + b"\0\0\0\0",
    "short gAMA": chunk(b"gAMA", b"\0"),
    "short cHRM": chunk(b"cHRM", b"\0"),
    "empty sRGB": chunk(b"sRGB", b""),
    "short pHYs": chunk(b"pHYs", b"\0\0"),
    "short acTL": chunk(b"acTL", b"\0"),
    "fcTL of another size": chunk(b"fcTL", bytes(4) + b"\0\0\xff\xff" * 2 + bytes(14)),
    "fcTL out of order": chunk(b"fcTL", b"\0\0\0\7" + bytes(22)),
    "eXIf of nothing": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xff"),
    "a chunk nobody knows": chunk(b"prVt", b"anything"),
}


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("kind", PNG_METADATA)
def test_a_png_is_its_pixels_whatever_is_said_about_them(scene: Image.Image, kind: str, where: str):
    plain = encoded(scene)
    at = 33 if where == "before" else len(plain) - 12
    data = plain[:at] + PNG_METADATA[kind] + plain[at:]
    assert check_header(data) == (64, 48)
    assert np.array_equal(decode(data), np.asarray(scene))


def test_texts_between_the_pixels_of_a_png_are_skipped(scene: Image.Image):
    data = encoded(scene)
    start, end = data.index(b"IDAT") - 4, len(data) - 12
    body = data[start + 8 : end - 4]
    halves = chunk(b"IDAT", body[:50]) + chunk(b"tEXt", b"key\0text") + chunk(b"IDAT", body[50:])
    assert np.array_equal(decode(data[:start] + halves + data[end:]), np.asarray(scene))


JPEG_METADATA = {
    "short JFIF": segment(0xE0, b"JFIF\0"),
    "short Adobe": segment(0xEE, b"Adobe"),
    "short profile": segment(0xE2, b"ICC_PROFILE\0"),
    "parts of a profile": segment(0xE2, b"ICC_PROFILE\0\1") * 3,
    "empty Photoshop": segment(0xED, b"Photoshop 3.0\x008BIM"),
    "EXIF of nothing": segment(0xE1, b"Exif\0\0"),
    "EXIF cut off": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\2\1\x12\0\3"),
    "EXIF that refers to nothing": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "EXIF of odd numbers": segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\1\0\x1a\1\5\0\1\0\0\0\x08\0\0\0" + bytes(8)),
    "index of pictures without a number": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0"),
    "index of pictures that is none": segment(0xE2, b"MPF\0" + b"\xff" * 20),
    "XMP that is no XML": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"<" * 5000),
    "a comment": segment(0xFE, b"\xff\xda\xff\xd9"),
}


@pytest.mark.parametrize("kind", JPEG_METADATA)
@pytest.mark.parametrize("how", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_is_its_pixels_whatever_is_said_about_them(scene: Image.Image, kind: str, how: dict[str, bool]):
    plain = encoded(scene, "JPEG", **how)
    data = plain[:2] + JPEG_METADATA[kind] + plain[2:]
    assert check_header(data) == (64, 48)
    assert np.array_equal(decode(data), decode(plain))


@pytest.mark.parametrize("kind", [b"EXIF", b"XMP ", b"ICCP", b"odd "])
@pytest.mark.parametrize("cut", [False, True])
def test_a_webp_is_its_pixels_whatever_is_said_about_them(scene: Image.Image, kind: bytes, cut: bool):
    said = encoded(scene, "WEBP", exif=exif(1), quality=90)
    end = said.index(b"EXIF")
    data = said[:end] + kind + (b"\xff\xff\xff\7" if cut else b"\3\0\0\0") + b"MM\0\0"
    data = data[:4] + (len(data) - 8).to_bytes(4, "little") + data[8:]
    assert check_header(data) == (64, 48)
    assert np.array_equal(decode(data), decode(encoded(scene, "WEBP", quality=90)))


def test_metadata_is_not_inflated(tmp_path: Path):
    """60 texts of 1 MiB each, and a directory whose 60,000 entries all refer to the same 4 MiB."""
    texts = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20), 9)) * 60
    entries = b"".join(b"\1" + bytes([n & 127]) + b"\0\7\0\x40\0\0\0\0\0\x08" for n in range(60_000))
    directory = chunk(b"eXIf", b"MM\0*\0\0\0\x08" + (60_000).to_bytes(2) + entries + bytes(4 << 20))
    assert peak_mib(tmp_path, png(64, 64, before=texts + directory)) < 30


@pytest.mark.parametrize("kind", ["MPO", "JPEG"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_telephones_mpo_is_the_jpeg_that_comes_first(scene: Image.Image, kind: str, mode: str):
    picture = scene.convert(mode)
    more = {"save_all": True, "append_images": [Image.new(mode, (64, 48))]} if kind == "MPO" else {}
    data = encoded(picture, kind, exif=exif(6), **more)
    assert extension(data) == "jpg"
    assert check_header(data) == (64, 48)
    assert np.array_equal(decode(data), decode(encoded(picture, "JPEG", exif=exif(6))))
    assert decode(data).shape == (64, 48, 3)
    assert thumbnail(data, 32)[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_pillow_makes_of_it(kind: str):
    """Metadata is left behind, but for how the camera was held."""
    with Image.open(images.io.BytesIO(KINDS[kind])) as picture:
        picture.load()
        if picture.mode == "I;16":
            expected = np.repeat((np.asarray(picture) >> 8).astype(np.uint8)[..., None], 3, 2)
        else:
            layered = ImageOps.exif_transpose(picture).convert("RGBA")
            white = Image.new("RGBA", layered.size, "white")
            opaque = picture.mode in ("RGB", "CMYK") and "transparency" not in picture.info
            flat = ImageOps.exif_transpose(picture) if opaque else Image.alpha_composite(white, layered)
            expected = np.asarray(flat.convert("RGB"))
    assert np.array_equal(decode(KINDS[kind]), expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("said", [3, 6])
def test_how_the_camera_was_held_is_read_from_exif_before_xmp(order: str, said: int):
    held = exif(said)
    held.endian = order
    assert orientation(held.tobytes(), XMP % 8) == said
    assert orientation(exif(1).tobytes(), XMP % 8) == 1
    assert orientation(b"", XMP % 8) == 8
    assert orientation(b"", b"") == 1


def test_cut_exif_says_nothing_or_the_truth():
    whole = exif(6).tobytes()
    assert {orientation(whole[:length], b"") for length in range(len(whole))} == {1, 6}


# ---- faults


def test_nothing_but_image_faults_comes_of_altered_files_of_any_kind():
    rng, found = np.random.default_rng(12), Counter[str]()
    names = list(KINDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(4_400):
            data = altered(KINDS[names[number % len(names)]], rng)
            try:
                pixels = decode(data)
            except ImageFault as fault:
                found[fault.reason] += 1
                continue
            found["decoded"] += 1
            size = check_header(data)
            assert pixels.dtype == np.uint8
            assert pixels.shape in ((*size, 3), (*size[::-1], 3))
    assert set(found) <= {"decoded", "not_an_image", "damaged_image", "too_many_pixels", "too_small", "too_narrow"}
    assert min(found["decoded"], found["damaged_image"], found["not_an_image"]) > 500


@pytest.mark.parametrize(
    "error",
    [IndexError, KeyError, AssertionError, ZeroDivisionError, OverflowError, RecursionError, SystemError, zlib.error],
)
@pytest.mark.parametrize("where", ["open", "load"])
def test_whatever_a_decoder_raises_is_a_fault_of_the_picture(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception], where: str
):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Image if where == "open" else ImageFile.ImageFile, where, fails)
    with pytest.raises(ImageFault, match=error.__name__) as fault:
        decode(PLAIN)
    assert fault.value.reason == ("not_an_image" if where == "open" else "damaged_image")
    assert thumbnail(PLAIN, 16) == b""


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit])
def test_what_no_picture_causes_is_no_fault_of_it(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]):
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fails)
    with pytest.raises(error):
        decode(PLAIN)


def test_two_sizes_in_one_file_are_refused(scene: Image.Image):
    """A decoder that believes the second would make room for 65,280 x 65,280 pixels."""
    data = encoded(scene, "JPEG")
    at = data.index(b"\xff\xc0")
    other = bytearray(data[at : at + 19])
    other[5:9] = b"\xff\x00\xff\x00"
    assert refused(data[:at] + data[at : at + 19] + bytes(other) + data[at + 19 :]) == "too_many_pixels"
    assert refused(data[:at] + bytes(other) + data[at:]) == "damaged_image"
    header = chunk(b"IHDR", bytes.fromhex("0000200000002000 0802000000"))
    plain = encoded(scene)
    assert refused(plain[:33] + header + plain[33:]) == "not_an_image"


# ---- work and memory


def test_a_scan_bomb_is_refused_by_its_markers():
    bomb = with_scans(encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True), 2200)
    start = time.process_time()
    for look in (decode, check_header):
        assert refused(bomb, look) == "too_costly"
    assert time.process_time() - start < 1  # it takes 20 s to decode


def test_scans_of_several_sequential_ones_count_too():
    flat = encoded(Image.new("YCbCr", (4000, 4000)), "JPEG")
    at = flat.index(b"\xff\xda")
    one = bytes.fromhex("ffda000801010000 3f00") + bytes(8)
    assert refused(flat[:at] + one * 400 + flat[at:]) == "too_costly"


def test_the_scans_that_encoders_write_are_fine(scene: Image.Image):
    for mode in ("L", "RGB", "CMYK"):
        data = encoded(scene.convert(mode), "JPEG", progressive=True)
        assert decode(with_scans(data, 200)).shape == (48, 64, 3)


def test_what_only_looks_like_a_scan_does_not_count():
    data = encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True)
    assert check_header(data[:2] + segment(0xE5, b"\xff\xda" * 30_000) + data[2:]) == (4000, 4000)
    at = data.rindex(b"\xff\xda")
    assert check_header(data[:at] + segment(0xFE, b"\xff\xda" * 30_000) + data[at:]) == (4000, 4000)
    assert check_header(data + b"\xff\xda\0\x0c" * 10_000) == (4000, 4000)


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE + chunk(b"IHDR", bytes.fromhex("00000040000000400802000000")) + chunk(b"IDAT", b"") * 300_000,
        png(64, 64, before=chunk(b"tEXt", b"a\0b") * 300_000),
        PLAIN[:2] + segment(0xFE, b"") * 300_000 + PLAIN[2:],
        b"RIFF\xff\xff\xff\x7fWEBP" + b"ANMF\0\0\0\0" * 300_000,
    ],
    ids=["empty IDAT", "texts", "comments", "frames"],
)
def test_so_many_parts_are_not_read(data: bytes):
    for look in (decode, check_header):
        assert refused(data, look) == "too_costly"


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_junk_in_a_jpeg_is_skipped_at_once(filler: bytes):
    assert np.array_equal(decode(PLAIN[:2] + b"\xff" + filler * 4_000_000 + PLAIN[2:]), decode(PLAIN))


def test_data_beyond_the_pixels_is_not_inflated(tmp_path: Path):
    bomb = png(64, 64)
    at = bomb.index(b"IDAT") - 4
    assert peak_mib(tmp_path, bomb[:at] + chunk(b"IDAT", zlib.compress(bytes(100 << 20), 1))) < 30


def peak_mib(folder: Path, data: bytes, look: str = "decode") -> float:
    """What memory peaks at in a process of its own while it decodes, above what it had before."""
    (folder / "picture").write_bytes(data)
    code = f"""if True:
        import pathlib, resource
        from hqclip.data import images
        def peak():
            return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
        data = pathlib.Path({str(folder / "picture")!r}).read_bytes()
        images.decode({PLAIN!r})
        before = peak()
        images.{look}(data)
        print((peak() - before) / 1024)"""
    return float(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


PALETTE = chunk(b"PLTE", bytes(768)) + chunk(b"tRNS", bytes(range(256)))
LARGE = {  # of 16 MP: 10 bytes a pixel are 153 MiB
    "palette": lambda: png(4000, 4000, 8, 3, PALETTE, level=1),
    "rgba": lambda: png(4000, 4000, 8, 6, level=1),
    "16 bits": lambda: png(4000, 4000, 16, 0, level=1),
    "jpeg": lambda: encoded(Image.new("RGB", (4000, 4000)), "JPEG", exif=exif(6)),
    "progressive": lambda: encoded(Image.new("RGB", (4000, 4000)), "JPEG", progressive=True, subsampling=0),
    "cmyk": lambda: encoded(Image.new("CMYK", (4000, 4000)), "JPEG"),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads what Linux says of a process")
@pytest.mark.parametrize("look", ["decode", "decode_picture"])
@pytest.mark.parametrize("kind", LARGE)
def test_no_picture_takes_more_than_ten_bytes_a_pixel(tmp_path: Path, kind: str, look: str):
    assert peak_mib(tmp_path, LARGE[kind](), look) < 1.1 * 10 * 4000 * 4000 / 2**20


@pytest.mark.parametrize(
    ("kind", "most", "how"),
    [
        ("WEBP", 40, {"method": 0}),
        ("JPEG", 53, {"progressive": True}),
    ],
)
def test_where_a_pixel_takes_more_memory_fewer_are_allowed(
    monkeypatch: pytest.MonkeyPatch, kind: str, most: int, how: dict[str, object]
):
    monkeypatch.setattr(images, "MAX_BYTES", images.MAX_BYTES // 1000)
    mode = "CMYK" if kind == "JPEG" else "RGB"
    assert decode(encoded(Image.new(mode, (100, most * 10 - 5)), kind, **how)).shape[1] == 100
    assert refused(encoded(Image.new(mode, (100, most * 10 + 5)), kind, **how)) == "too_many_pixels"


@pytest.mark.parametrize("kind", KINDS)
def test_strips_of_a_large_picture_are_as_the_whole(monkeypatch: pytest.MonkeyPatch, kind: str):
    whole, picture = decode(KINDS[kind]), np.asarray(decode_picture(KINDS[kind]))
    monkeypatch.setattr(images, "STRIP", 7 * 40)
    assert np.array_equal(decode(KINDS[kind]), whole)
    assert np.array_equal(np.asarray(decode_picture(KINDS[kind])), picture)


def test_an_interlaced_picture_is_its_pixels(scene: Image.Image):
    assert np.array_equal(decode(interlaced(np.asarray(scene))), np.asarray(scene))


def test_altered_checksums_of_what_makes_pixels_count(scene: Image.Image):
    data = bytearray(encoded(scene))
    data[23] ^= 1  # 49 rows
    assert refused(bytes(data), check_header) == "not_an_image"
    assert check_header(with_checksums(bytes(data))) == (64, 49)
