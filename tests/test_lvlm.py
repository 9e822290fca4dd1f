"""How many tokens a picture costs in each family of LVLMs, and how it is shrunk to fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hqclip.annotate.lvlm import FAMILIES, MIN_TOKENS, UNKNOWN, family_of
from hqclip.errors import ConfigError


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
    assert FAMILIES[kind].tokens(height, width) == tokens


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen3_vl"])
@pytest.mark.parametrize("size", [(512, 512), (768, 1024), (2000, 260), (4000, 3000), (300, 2400)])
@pytest.mark.parametrize("budget", [64, 256])
def test_a_large_picture_keeps_its_shape_and_the_budget(kind: str, size: tuple[int, int], budget: int):
    family = FAMILIES[kind]
    height, width = family.size(*size, budget)
    assert budget / 2 <= family.tokens(height, width) <= budget
    assert height % family.side == width % family.side == 0
    assert height / width == pytest.approx(size[0] / size[1], rel=0.5)


def test_a_small_picture_is_never_enlarged():
    picture = np.zeros((20, 30, 3), np.uint8)
    for family in [*FAMILIES.values(), UNKNOWN]:
        assert family.fit(picture, 256) is picture


@pytest.mark.parametrize(("kind", "side"), [("internvl_chat", 448), ("smolvlm", 512)])
def test_a_model_of_tiles_gets_one_tile(kind: str, side: int):
    assert FAMILIES[kind].fit(np.zeros((600, 1200, 3), np.uint8), 256).shape == (side // 2, side, 3)


def test_what_is_shrunk_still_looks_the_same():
    left = np.zeros((600, 600, 3), np.uint8)
    left[:, :300] = 200
    small = FAMILIES["qwen2_vl"].fit(left, 64)
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
    with pytest.raises(ConfigError, match="is not the config of a model"):
        family_of(tmp_path)
