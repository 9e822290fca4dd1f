"""The towers at work: the same numbers in any order and by any number of decoders, on a GPU in bf16, in less memory."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.transform import PreprocessCfg, image_transform_v2
from PIL import Image

from hqclip.clip import ExportedClip, embeddings, encode_text, fit, normalise
from hqclip.clip.decoders import prepared
from hqclip.clip.device import Device, find_device
from hqclip.errors import DataError, MissingSoftwareError
from hqclip.store import open_store
from tests.clips import COLOURS, TEXTS, pictures, random_texts, write_clip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    write_clip(folder / "m")
    return folder


@pytest.fixture
def clip(folder: Path) -> ExportedClip:
    return ExportedClip(open_store(str(folder)), "m", device="cpu")


@pytest.fixture(scope="module")
def stock(folder: Path) -> Any:
    return open_clip.create_model(f"local-dir:{folder / 'm'}").eval()


@torch.inference_mode()
def one_after_the_other(stock: Any, images: list[Any], batch_size: int) -> torch.Tensor:
    """The embeddings by the plainest code: a picture, a batch, the tower."""
    mean, std = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    parts = []
    for start in range(0, len(images), batch_size):
        batch = torch.stack([fit(image, (32, 32)) for image in images[start : start + batch_size]])
        parts.append(F.normalize(stock.encode_image(normalise(batch, mean, std)), dim=-1))
    return torch.cat(parts)


@torch.inference_mode()
def in_order(stock: Any, texts: list[str], batch_size: int) -> torch.Tensor:
    """The same of texts."""
    tokenize = open_clip.get_tokenizer("ViT-B-32")
    starts = range(0, len(texts), batch_size)
    parts = [encode_text(stock, tokenize(texts[start : start + batch_size])) for start in starts]
    return F.normalize(torch.cat(parts), dim=-1)


@pytest.mark.parametrize("threads", [1, 3])
def test_images_are_those_of_the_plainest_code_bit_for_bit(folder: Path, stock: Any, threads: int):
    images = pictures(21)
    ours = ExportedClip(open_store(str(folder)), "m", device="cpu", decode_threads=threads).images(images, 8)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, one_after_the_other(stock, images, 8))


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (375, 500), (333, 501), (33, 32), (427, 427)])
def test_a_picture_is_cut_where_open_clip_cuts_it(size: tuple[int, int]):
    """Half a pixel beside it would be another picture for a model that was trained elsewhere; a level is rounding."""
    drawn = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    picture = Image.fromarray(drawn).resize(size[::-1], Image.Resampling.BICUBIC)
    config = PreprocessCfg(size=32, mean=(0.0,) * 3, std=(1.0,) * 3)
    theirs = image_transform_v2(config, is_train=False)(picture) * 255
    assert (fit(np.array(picture), (32, 32)).float() - theirs).abs().max() < 2.5


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("size", [(640, 480), (375, 500), (33, 97), (32, 32)])
def test_a_picture_is_resized_as_it_lies_to_what_its_three_planes_give(size: tuple[int, int], interpolation: str):
    image = np.random.default_rng(4).integers(0, 256, (*size, 3), np.uint8)
    before = image.copy()
    planes_13HW = torch.tensor(image).permute(2, 0, 1)[None].contiguous()
    squashed = F.interpolate(planes_13HW, size=(32, 32), mode=interpolation, antialias=True)[0]
    assert torch.equal(fit(image, (32, 32), interpolation, squash=True), squashed)
    assert np.array_equal(image, before)


@pytest.mark.parametrize("number", [5, 512, 1030])
def test_texts_are_those_of_the_plainest_code_bit_for_bit_in_the_order_asked(
    clip: ExportedClip, stock: Any, number: int
):
    texts = random_texts(number)
    assert torch.equal(clip.texts(texts), in_order(stock, texts, 512))


def test_texts_are_sorted_by_length_and_tokenised_once(clip: ExportedClip, monkeypatch: pytest.MonkeyPatch):
    lengths: list[list[int]] = []
    asked: list[int] = []

    def encode(model: Any, tokens: torch.Tensor) -> torch.Tensor:
        lengths.append(tokens.argmax(-1).tolist())
        return encode_text(model, tokens)

    tokenize = clip._tokenizer
    monkeypatch.setattr(embeddings, "encode_text", encode)
    monkeypatch.setattr(clip, "_tokenizer", lambda texts: (asked.append(len(texts)), tokenize(texts))[1])
    clip.texts(random_texts(33), 8)
    assert asked == [33]
    in_full_batches = [length for batch in lengths[:4] for length in batch]
    assert in_full_batches == sorted(in_full_batches)
    assert [len(batch) for batch in lengths] == [8, 8, 8, 8, 1]


def test_of_nothing_there_is_nothing(clip: ExportedClip):
    assert len(clip.texts([])) == len(clip.images([], 4)) == len(clip.readings([])) == 0


def test_texts_are_one_to_the_model_where_its_tokens_are(clip: ExportedClip):
    """CLIP's tokenizer knows no capitals or blanks, curly quotes or escapes, and cuts a text behind its 77 tokens."""
    long = "ring " * 80
    alike = [
        ("A ring", "a  ring "),
        (long + "red", long + "blue"),
        ("a dog\u2019s ball", "a dog's ball"),
        ("a &amp; b", "a & b"),
    ]
    for one, other in alike:
        assert clip.readings([one]) == clip.readings([other])
    assert len(set(clip.readings(["a ring", "a ring.", "a rings", "ring", long]))) == 5


def test_images_may_be_decoded_when_their_turn_comes(clip: ExportedClip):
    images = pictures(9)
    loads: list[Callable[[], Any]] = [lambda image=image: image for image in images]  # type: ignore[misc]
    assert torch.equal(clip.images(loads, 4), clip.images(images, 4))


def test_the_decoders_stay_ahead_but_not_far_and_keep_the_order():
    asked: list[int] = []

    def load(number: int) -> Callable[[], Any]:
        def picture() -> Any:
            time.sleep(0.002 * (number % 3))
            return np.full((2, 2, 3), number, np.uint8)

        return picture

    def loads() -> Any:
        for number in range(20):
            asked.append(number)
            yield load(number)

    made = prepared(loads(), torch.tensor, threads=3, ahead=5)
    for number in range(20):
        assert int(next(made)[0, 0, 0]) == number
        assert len(asked) <= number + 6


def test_no_more_pictures_than_decoders_are_held_at_their_full_size():
    alive, most, lock = weakref.WeakSet[Any](), [0], threading.Lock()

    class Picture(np.ndarray[Any, Any]):
        __hash__ = object.__hash__

    def picture() -> Any:
        with lock:
            made = np.zeros((4, 4, 3), np.uint8).view(Picture)
            alive.add(made)
            most[0] = max(most[0], len(alive))
        time.sleep(0.002)
        return made

    assert len(list(prepared((picture for _ in range(40)), lambda image: torch.zeros(1), threads=3, ahead=16))) == 40
    assert most[0] <= 4  # one may still be on its way out


def test_a_picture_that_cannot_be_read_is_raised_in_its_turn_and_ends_the_decoders(clip: ExportedClip):
    def broken() -> Any:
        raise DataError("picture 5 is broken")

    images: list[Any] = pictures(12)
    images[5] = broken
    batches = clip.image_batches(images, 4)
    assert len(next(batches)) == 4
    before = threading.active_count()
    with pytest.raises(DataError, match="picture 5 is broken"):
        next(batches)
    assert threading.active_count() <= before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_decoders_leave_the_threads_of_torch_alone(clip: ExportedClip):
    before, seen = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:

        def picture() -> Any:
            seen.add(torch.get_num_threads())
            return np.zeros((32, 32, 3), np.uint8)

        clip.images([picture] * 6, 3)
        assert (seen, torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_the_device_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert str(find_device("auto")) == str(find_device("cuda")) == "cuda bf16"
    assert str(find_device("cpu")) == "cpu fp32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    assert str(find_device("auto")) == "cuda fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert str(find_device("auto")) == "cpu fp32"
    with pytest.raises(MissingSoftwareError, match="device is cuda, but torch sees no GPU here"):
        find_device("cuda")


@pytest.fixture
def fake_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ExportedClip:
    """A CLIP on a device that is the CPU, but calculates as a GPU would."""
    arithmetic = {"auto": torch.bfloat16, "cpu": torch.float32}
    monkeypatch.setattr(embeddings, "find_device", lambda asked: Device(torch.device("cpu"), arithmetic[asked]))
    return ExportedClip(open_store(str(folder)), "m")


def test_on_a_gpu_the_towers_calculate_in_bf16_and_similarities_are_float32(fake_gpu: ExportedClip, clip: ExportedClip):
    seen = set()
    for tower in (fake_gpu._model.visual.conv1, fake_gpu._model.transformer.resblocks[0].mlp.c_fc):
        tower.register_forward_hook(lambda module, given, made: seen.add(made.dtype))
    image_ND, text_ND = fake_gpu.images(pictures(6), 4), fake_gpu.texts(TEXTS)
    assert seen == {torch.bfloat16}
    assert image_ND.dtype == text_ND.dtype == torch.float32
    assert torch.allclose(image_ND.norm(dim=-1), torch.ones(6), atol=1e-6)
    for rough, exact in ((image_ND, clip.images(pictures(6), 4)), (text_ND, clip.texts(TEXTS))):
        assert 0 < float((rough - exact).abs().max()) < 0.05
        assert float((rough * exact).sum(-1).min()) > 0.999
    assert str(fake_gpu.device) == "cpu bf16"


class Small:
    """A tower on a device that has memory for so many rows."""

    def __init__(self, encode: Callable[[torch.Tensor], torch.Tensor], rows: int) -> None:
        self.encode, self.rows = encode, rows
        self.sizes: list[int] = []

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.encode(rows)


def test_a_batch_that_the_device_has_no_memory_for_is_halved_which_is_said_once(
    clip: ExportedClip, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    images = pictures(20)
    expected = clip.images(images, 16)
    small = Small(clip._encode_images, 5)
    monkeypatch.setattr(clip, "_encode_images", small)
    assert torch.allclose(clip.images(images, 16), expected, atol=1e-6)
    assert small.sizes == [16, 8, 4, 4, 4, 4, 4]
    said = capfd.readouterr().err
    assert said.count("too little memory") == 1
    assert "too little memory for 16 images or texts at a time; smaller batches are tried" in said


def test_a_device_without_memory_for_one_picture_is_too_small(clip: ExportedClip, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip, "_encode_images", Small(clip._encode_images, 0))
    with pytest.raises(torch.OutOfMemoryError):
        clip.images(pictures(3), 2)


def test_embeddings_that_are_no_numbers_are_refused(clip: ExportedClip):
    torch.nn.init.constant_(clip._model.text_projection, float("nan"))
    with pytest.raises(DataError, match="m gives embeddings that are not finite"):
        clip.texts(TEXTS)
