"""Pictures as the web has them: odd, cut, altered, or made to harm."""

from __future__ import annotations

import contextlib
import io
import resource
import struct
import warnings
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from hqclip.data.images import ImageFault, check_header, decode

RED, WHITE = (215, 40, 40), (255, 255, 255)


def encoded(picture: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def refused(data: bytes, look: Callable[[bytes], object] = decode) -> str:
    with pytest.raises(ImageFault) as fault:
        look(data)
    return fault.value.reason


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(width: int, height: int, bits: int = 1) -> bytes:
    """A black picture that takes hardly any room, however large it is."""
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + -(-width * bits // 8))
    data = b"".join([*(packer.compress(row) for _ in range(height)), packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_anything_is_decoded():
    bomb = flat_png(12_000, 12_000)
    assert len(bomb) < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for look in (decode, check_header):
        assert refused(bomb, look) == "too_many_pixels"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024  # KiB; decoded it has 432 MB


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (60_000, 60_000, "too_many_pixels"),
        (17_000, 3_000, "too_many_pixels"),
        (8_001, 8_000, "too_many_pixels"),
        (10_000, 20, "too_narrow"),
        (20, 161, "too_narrow"),
        (1, 1, "too_small"),
        (15, 100, "too_small"),
        (100, 15, "too_small"),
    ],
)
def test_sizes_out_of_bounds_are_refused_by_the_header(width: int, height: int, reason: str):
    header_only = flat_png(width, 1)[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    data = header_only + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for look in (decode, check_header):
        assert refused(data, look) == reason


@pytest.mark.parametrize(("width", "height"), [(16, 16), (160, 20), (20, 160), (16, 128)])
def test_sizes_at_the_bounds_are_taken(width: int, height: int):
    data = flat_png(width, height)
    assert check_header(data) == (width, height)
    assert decode(data).shape == (height, width, 3)


@pytest.fixture(scope="module")
def jpeg(scene_jpeg: Callable[[int], bytes]) -> bytes:
    return scene_jpeg(1)


def test_a_picture_comes_as_height_width_and_rgb(jpeg: bytes):
    pixels = decode(jpeg)
    assert pixels.shape == (56, 56, 3)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(jpeg))))


def test_a_jpeg_cut_short_is_damaged_wherever_it_is_cut(jpeg: bytes):
    assert check_header(jpeg[: len(jpeg) // 2]) == (56, 56)
    reasons = {refused(jpeg[:length]) for length in range(0, len(jpeg) - 2, 97)}
    assert reasons == {"not_an_image", "damaged_image"}


def test_a_jpeg_whose_scan_breaks_off_into_another_is_damaged(jpeg: bytes):
    middle = (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    assert refused(jpeg[:middle] + b"\xff\xda" + jpeg[middle + 2 :]) == "damaged_image"


def test_a_flipped_byte_in_a_scan_leaves_a_picture_of_the_same_size(jpeg: bytes):
    for at in range(jpeg.index(b"\xff\xda") + 14, len(jpeg) - 2, 41):
        assert decode(jpeg[:at] + bytes([jpeg[at] ^ 0x10]) + jpeg[at + 1 :]).shape == (56, 56, 3)


def test_a_png_with_altered_data_is_damaged():
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = bytearray(encoded(Image.fromarray(noise)))
    data[len(data) // 2] ^= 1
    assert check_header(bytes(data)) == (64, 64)
    assert refused(bytes(data)) == "damaged_image"


def test_what_follows_a_jpeg_is_of_no_interest(jpeg: bytes):
    assert np.array_equal(decode(jpeg + b"<script>alert(1)</script>" * 100), decode(jpeg))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 4096,
        b"<html>not found</html>",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><script>alert(1)</script></svg>',
        b"%PDF-1.7",
        b"\xff\xd8\xff",
    ],
    ids=["nothing", "zeros", "web page", "svg", "pdf", "three bytes"],
)
def test_what_is_no_picture_is_no_picture(data: bytes):
    for look in (decode, check_header):
        assert refused(data, look) == "not_an_image"


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM", "ICO", "EPS", "TGA", "PCX"])
def test_kinds_that_no_shard_should_hold_are_refused(kind: str):
    picture = Image.new("RGB", (64, 64), RED)
    assert refused(encoded(picture, kind)) == "not_an_image"


def test_an_animated_gif_is_refused_whatever_it_is_called():
    first, second = Image.new("P", (64, 64), 1), Image.new("P", (64, 64), 2)
    assert refused(encoded(first, "GIF", save_all=True, append_images=[second])) == "not_an_image"


@pytest.mark.skipif(not features.check("webp"), reason="Pillow without WebP")
def test_an_animation_counts_for_its_first_picture():
    frames = [Image.new("RGB", (32, 32), colour) for colour in (RED, WHITE)]
    for kind, how in (("WEBP", {"lossless": True}), ("PNG", {})):
        moving = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=40, **how)
        assert tuple(decode(moving)[0, 0]) == RED


def test_cmyk_becomes_rgb():
    picture = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    red, green, blue = decode(encoded(picture, "JPEG"))[16, 16].astype(int)
    assert red > 200 > 60 > max(green, blue)


def test_sixteen_bits_keep_their_brightness():
    ramp = np.linspace(0, 65_535, 64 * 64).astype(np.uint16).reshape(64, 64)
    pixels = decode(encoded(Image.fromarray(ramp)))
    assert np.array_equal(pixels[..., 0], ramp >> 8)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_a_palette_gives_its_colours():
    picture = Image.new("P", (32, 32), 1)
    picture.putpalette([0, 0, 0, *RED])
    assert np.array_equal(decode(encoded(picture)), np.full((32, 32, 3), RED))


def test_black_and_white_and_grey_become_rgb():
    for mode in ("1", "L"):
        assert np.array_equal(decode(encoded(Image.new(mode, (32, 32), 255))), np.full((32, 32, 3), 255))


def half_red(mode: str) -> Image.Image:
    """Red on the left; on the right something that is fully transparent."""
    picture = Image.new("RGBA", (32, 32), (*RED, 255))
    picture.paste((0, 0, 0, 0), (16, 0, 32, 32))
    return picture.convert(mode)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_white(kind: str):
    pixels = decode(encoded(half_red("RGBA"), kind, lossless=True))
    assert tuple(pixels[0, 0]) == RED
    assert tuple(pixels[0, 31]) == WHITE


def test_a_transparent_colour_is_white_too():
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([*RED, 0, 0, 0])
    palette.paste(1, (16, 0, 32, 32))
    plain = Image.new("RGB", (32, 32), RED)
    plain.paste((0, 0, 0), (16, 0, 32, 32))
    for picture, transparent in ((palette, 1), (plain, (0, 0, 0))):
        pixels = decode(encoded(picture, transparency=transparent))
        assert tuple(pixels[0, 0]) == RED
        assert tuple(pixels[0, 31]) == WHITE


def test_grey_with_transparency_is_laid_on_white():
    picture = Image.new("LA", (32, 32), (0, 0))
    assert np.array_equal(decode(encoded(picture)), np.full((32, 32, 3), 255))


def test_half_transparent_black_is_grey():
    pixels = decode(encoded(Image.new("RGBA", (32, 32), (0, 0, 0, 128))))
    assert 126 <= pixels.min() <= pixels.max() <= 128


ORIENTED = {  # EXIF orientation: which corner of the stored picture comes to lie at the upper left
    1: (0, 0),
    2: (0, -1),
    3: (-1, -1),
    4: (-1, 0),
    5: (0, 0),
    6: (-1, 0),
    7: (-1, -1),
    8: (0, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", ORIENTED)
def test_a_picture_comes_upright_however_the_camera_was_held(kind: str, orientation: int):
    stored = np.kron(np.array([[0, 80, 80], [255, 80, 160]], np.uint8), np.ones((32, 32), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(stored).convert("RGB"), kind, exif=exif, quality=95)
    pixels = decode(data)[..., 0].astype(int)
    assert check_header(data) == (96, 64), "the header says how it is stored"
    assert pixels.shape == ((64, 96) if orientation < 5 else (96, 64))
    y, x = ORIENTED[orientation]
    assert pixels[4, 4] == pytest.approx(int(stored[y, x]), abs=8)
    assert np.allclose(pixels, np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L")), atol=3)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none_changes_nothing(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert decode(encoded(Image.new("RGB", (48, 32), RED), "JPEG", exif=exif)).shape == (32, 48, 3)


def test_hostile_attributes_are_silent(jpeg: bytes):
    odd = encoded(Image.new("RGB", (32, 32), RED), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode(odd).shape == (32, 32, 3)


def test_nothing_but_image_faults_comes_of_altered_pictures(jpeg: bytes):
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8))
    seeds = [jpeg, encoded(noise), encoded(noise.quantize(8)), encoded(noise, "WEBP"), encoded(noise, "JPEG")]
    for number in range(1000):
        data = bytearray(seeds[number % len(seeds)])
        for at in rng.integers(0, len(data) if number % 2 else 120, 3):
            data[at] = rng.integers(256)
        with contextlib.suppress(ImageFault):
            assert decode(bytes(data)).ndim == 3
