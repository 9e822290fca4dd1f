"""What `annotate` makes of pictures that no decoder expects, that are slow, or for which there is no memory."""

from __future__ import annotations

import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from hqclip.annotate import stage
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.reader import CHUNK
from hqclip.records import Sample
from tests.annotated_pools import Draw, pool_of, rows_of
from tests.fakes.engines import ScriptedEngine
from tests.odd_pictures import chunk, encoded


def test_pictures_that_no_decoder_expects_are_rows_like_others(
    tmp_path: Path, engine: ScriptedEngine, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch
):
    """Metadata that inflates or stands where none may, several pictures in a file, and an exception nobody listed."""
    plain = encoded(Image.new("RGB", (32, 32)), "PNG")
    profile = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20)))
    odd = [plain[:-12] + chunk(b"iCCP", b"profile") + plain[-12:], plain[:33] + profile + plain[33:], plain]
    odd.append(encoded(Image.new("RGB", (32, 32)), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]))
    odd.append(encoded(Image.new("RGB", (32, 32)), "JPEG"))
    samples = [Sample(f"{n:032x}", data, f"alt-text {n}") for n, data in enumerate(odd)]
    load = PngImagePlugin.PngImageFile.load_end

    def fails_on_the_third(png: PngImagePlugin.PngImageFile) -> None:
        if len(png.fp.getvalue()) == len(plain):
            raise IndexError("index out of range")
        load(png)

    config = pool_of(tmp_path, samples)
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", fails_on_the_third)
    result = stage.run(replace(config, max_fault_rate=1.0))
    assert result["statuses"] == {"ok": 2, "unreadable_image": 3}
    assert [row.answer for row in rows_of(config, result["annotations"])] == ["damaged_image"] * 3 + ["", ""]


def test_a_picture_that_is_slow_to_decode_holds_up_no_others(
    tmp_path: Path, engine: ScriptedEngine, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch
):
    """It comes when the engine has answered about all that were not read together with it."""
    first, others = encoded(Image.new("RGB", (64, 64)), "JPEG"), 200 - CHUNK
    samples = [replace(one, image=one.image if n else first) for n, one in enumerate(draw_samples(200))]
    pixels = Preparation.pixels

    def slow(self: Preparation, data: bytes) -> Any:
        for _ in range(2000 if data == first else 0):
            if len(engine.asked) >= others:
                break
            time.sleep(0.01)
        else:
            assert data != first, "the others wait"
        return pixels(self, data)

    monkeypatch.setattr(Preparation, "pixels", slow)
    config = pool_of(tmp_path, samples[:100], samples[100:], decode_threads=2)
    assert stage.run(config)["statuses"] == {"ok": 200}
    assert [row.uid for row in rows_of(config, stage.run(config)["annotations"])] == [one.uid for one in samples]


def test_a_fault_of_ours_in_a_decoding_thread_ends_the_stage(
    tmp_path: Path, engine: ScriptedEngine, draw_samples: Draw, monkeypatch: pytest.MonkeyPatch
):
    def fails(*_: Any) -> None:
        raise MemoryError("too little of it")

    monkeypatch.setattr(Preparation, "pixels", fails)
    with pytest.raises(MemoryError, match="too little"):
        stage.run(pool_of(tmp_path, draw_samples(20)))
