"""How many tokens a picture costs in each family of LVLMs, and how it is shrunk to fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from transformers import (
    GotOcr2ImageProcessor,
    Idefics3ImageProcessor,
    Qwen2VLImageProcessor,
    SmolVLMImageProcessor,
)

from hqclip.annotate.lvlm import FAMILIES, MIN_TOKENS, UNKNOWN, Family, family_of
from hqclip.errors import ConfigError


def tokens_of(family: Family, height: int, width: int) -> int:
    """What a picture of this size costs, rounded to whole tokens as Qwen's processors do."""
    count = round(height / family.side) * round(width / family.side)
    if count >= MIN_TOKENS:
        return count
    scale = math.sqrt(MIN_TOKENS * family.side**2 / (height * width))
    return math.ceil(height * scale / family.side) * math.ceil(width * scale / family.side)


@pytest.mark.parametrize(
    ("kind", "height", "width", "tokens"),
    [
        ("qwen2_vl", 512, 512, 324),
        ("qwen2_5_vl", 384, 512, 252),
        ("qwen3_vl", 512, 512, 256),
        ("qwen3_vl", 224, 224, 49),
    ],
)
def test_tokens_are_those_of_the_models_own_processors(kind: str, height: int, width: int, tokens: int):
    assert tokens_of(FAMILIES[kind], height, width) == tokens


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("size", [(512, 512), (768, 1024), (2000, 260), (4000, 3000), (300, 2400)])
@pytest.mark.parametrize("budget", [64, 256])
def test_a_large_picture_keeps_its_shape_and_the_budget(kind: str, size: tuple[int, int], budget: int):
    family = FAMILIES[kind]
    height, width = family.size(*size, budget)
    assert budget / 2 <= tokens_of(family, height, width) <= budget
    assert height % family.side == width % family.side == 0
    assert height / width == pytest.approx(size[0] / size[1], rel=0.5)


def test_a_small_picture_is_never_enlarged():
    picture = Image.new("RGB", (30, 20))
    for family in [*FAMILIES.values(), UNKNOWN]:
        assert family.fit(picture, 256) is picture


@pytest.mark.parametrize(("kind", "side"), [("internvl_chat", 448), ("smolvlm", 512)])
def test_a_model_of_tiles_gets_one_tile_into_which_it_stretches_the_picture(kind: str, side: int):
    family = FAMILIES[kind]
    assert family.fit(Image.new("RGB", (1200, 600)), 256).size == (side, side)
    assert family.fit(Image.new("RGB", (1200, 300)), 256).size == (side, 300)


SIZES = [(512, 512), (384, 512), (224, 224), (56, 56), (20, 30), (16, 128), (100, 75), (1200, 900), (300, 2400)]


@pytest.mark.parametrize(("kind", "patch"), [("qwen2_vl", 14), ("qwen3_vl", 16)])
@pytest.mark.parametrize("budget", [64, 256])
def test_what_qwens_processor_makes_of_a_picture_costs_what_is_said(kind: str, patch: int, budget: int):
    family = FAMILIES[kind]
    processor = Qwen2VLImageProcessor(patch_size=patch, merge_size=2, **family.processor_options(budget))
    for height, width in SIZES:
        picture = np.array(family.fit(Image.new("RGB", (width, height)), budget))
        grid = processor(picture, return_tensors="pt")["image_grid_thw"]
        tokens = int(grid.prod()) // 4
        assert tokens == tokens_of(family, *picture.shape[:2]) <= budget


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "processor"),
    [
        ("internvl", GotOcr2ImageProcessor(size={"height": 448, "width": 448}, crop_to_patches=True)),
        ("smolvlm", SmolVLMImageProcessor(size={"longest_edge": 2048}, max_image_size={"longest_edge": 512})),
        ("idefics3", Idefics3ImageProcessor(size={"longest_edge": 1456}, max_image_size={"longest_edge": 364})),
    ],
)
def test_what_a_processor_of_tiles_makes_of_a_picture_is_one_tile(kind: str, processor: Any, size: tuple[int, int]):
    family = FAMILIES[kind]
    picture = np.array(family.fit(Image.new("RGB", size[::-1]), 256))
    pixels = processor(picture, return_tensors="pt", **family.processor_options(256))["pixel_values"]
    assert tuple(pixels.shape[-2:]) == (family.tile, family.tile)
    assert pixels.numel() == 3 * family.tile**2


@pytest.mark.parametrize(
    ("config", "tile", "tokens"),
    [
        ({"model_type": "internvl", "downsample_ratio": 0.5, "vision_config": {"image_size": [448, 448]}}, 448, 256),
        (
            {
                "model_type": "internvl_chat",
                "downsample_ratio": 0.5,
                "vision_config": {"image_size": 336, "patch_size": 14},
            },
            336,
            144,
        ),
        (
            {"model_type": "smolvlm", "scale_factor": 4, "vision_config": {"image_size": 512, "patch_size": 16}},
            512,
            64,
        ),
        (
            {"model_type": "smolvlm", "scale_factor": 3, "vision_config": {"image_size": 384, "patch_size": 14}},
            384,
            81,
        ),
        ({"model_type": "idefics3", "vision_config": {"image_size": 364, "patch_size": 14}}, 364, 169),
    ],
)
def test_the_tile_is_that_of_the_very_model(tmp_path: Path, config: dict[str, Any], tile: int, tokens: int):
    (tmp_path / "config.json").write_text(json.dumps(config))
    family = family_of(tmp_path)
    assert (family.tile, family.image_tokens) == (tile, tokens)


@pytest.mark.parametrize(
    ("files", "tokens"),
    [
        ({"preprocessor_config.json": {"size": {"shortest_edge": 3136, "longest_edge": 12845056}}}, 256),
        ({"preprocessor_config.json": {"min_pixels": 3136, "max_pixels": 100 * 28 * 28}}, 100),
        ({"processor_config.json": {"image_processor": {"size": {"longest_edge": 3136}}}}, 4),
        ({}, 256),
    ],
)
def test_an_image_gets_no_more_tokens_than_the_model_knows(tmp_path: Path, files: dict[str, Any], tokens: int):
    config = {"model_type": "qwen2_vl", "vision_config": {}}
    for name, content in {"config.json": config, **files}.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert family_of(tmp_path).image_tokens == tokens


@pytest.mark.parametrize("told", ["x", [], {}, -1, None, float("nan"), {"longest_edge": "x"}, [1, 2], True])
@pytest.mark.parametrize("kind", ["qwen2_vl", "internvl", "smolvlm"])
def test_sizes_that_make_no_sense_are_left_to_whoever_loads_the_model(tmp_path: Path, kind: str, told: object):
    """They say what is wrong; here the sizes of the published models stand in."""
    vision = [{"image_size": told, "patch_size": told}, told]
    processors = [{"size": told, "max_pixels": told}, {"image_processor": told}]
    for part, processor in zip(vision, processors, strict=True):
        config = {"model_type": kind, "vision_config": part, "scale_factor": 0, "downsample_ratio": told}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        assert family_of(tmp_path).image_tokens > 0


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, "\x00"])
def test_a_processor_that_is_no_json_object_is_refused(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl", "vision_config": {}}))
    (tmp_path / "processor_config.json").write_text(content)
    with pytest.raises(ConfigError, match="processor_config.json (is no JSON|holds no JSON object)"):
        family_of(tmp_path)


def test_what_is_shrunk_still_looks_the_same():
    left = np.zeros((600, 600, 3), np.uint8)
    left[:, :300] = 200
    small = np.array(FAMILIES["qwen2_vl"].fit(Image.fromarray(left), 64))
    assert small.shape == (224, 224, 3)
    assert abs(int(small[100, 20, 0]) - 200) <= 1
    assert small[100, 200, 0] <= 1


def test_processors_are_told_the_budget_in_pixels():
    assert FAMILIES["qwen2_vl"].processor_options(256) == {
        "size": {"shortest_edge": MIN_TOKENS * 28 * 28, "longest_edge": 256 * 28 * 28}
    }
    assert UNKNOWN.processor_options(256) == {}


def test_an_lvlm_of_another_family_is_taken_as_it_is(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "newvl", "vision_config": {}}))
    assert family_of(tmp_path).name == "newvl"


@pytest.mark.parametrize("content", ["", "[]", "{}", "not JSON"])
def test_a_config_that_is_none_is_refused(tmp_path: Path, content: str):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ConfigError, match="config.json (is not the config of a model|is no JSON|holds no JSON object)"):
        family_of(tmp_path)
