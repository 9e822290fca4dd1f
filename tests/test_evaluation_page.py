"""The page about evaluation: every command of it, in order, on drawn data of the published forms."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from hqclip import cli
from hqclip.evaluate.benchmarks import KINDS
from hqclip.evaluate.importing.registry import LAYOUTS
from hqclip.store import open_store
from hqclip.train.model import HQClip
from tests import published_sets as published

Draw = Callable[[int], bytes]
PAGE = (Path(__file__).parents[1] / "docs/evaluation.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines()]


def draw_sets(sets: Path, draw: Draw) -> None:
    published.clip_benchmark(sets / "wds_imagenet1k_test", draw)
    published.image_folder(sets / "pets", draw)
    published.karpathy(sets / "coco", draw)
    published.coco(sets / "coco", draw)
    for number in range(3):
        published.put(sets, f"coco/val2017/{number}.jpg", draw(number))
    published.sugarcrepe(sets / "sugar-crepe/data", draw)
    published.aro(sets / "aro", draw)
    published.winoground(sets / "winoground/data", draw)
    for path in published.valse(sets / "VALSE/data", draw).glob("SWiG/*"):
        published.put(sets, f"VALSE/images/SWiG/{path.name}", path.read_bytes())
    published.mmvp(sets / "MMVP_VLM", draw)
    published.winogavil(sets / "winogavil", draw)
    published.urban1k(sets / "Urban1k", draw)


@pytest.mark.slow
def test_every_command_of_the_page_does_what_it_says(
    tmp_path: Path, scene_jpeg: Draw, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_sets(tmp_path / "sets", scene_jpeg)
    HQClip("shapes", [0.5]).export(tmp_path / "store/runs/m/model")
    for name, value in {
        "SETS": f"{tmp_path}/sets",
        "SUITE": f"{tmp_path}/suite",
        "STORE": f"{tmp_path}/store",
        "MODEL": "runs/m/model",
    }.items():
        monkeypatch.setenv(name, value)
    told = []
    for command in commands():
        words = shlex.split(os.path.expandvars(command))
        assert words[0] == "hqclip"
        assert cli.main(words[1:]) == 0, f"{command}\n{capsys.readouterr().err}"
        told.append(json.loads(capsys.readouterr().out))
    shown = next(one for one in told if "table" in one)
    assert [row["set"] for row in shown["sets"]] == sorted(one["name"] for one in told if "left_out" in one)
    assert {row["origin"]["layout"] for row in shown["sets"]} == set(LAYOUTS)
    judged = [one["evaluation"] for one in told if "evaluation" in one]
    assert judged[2] == judged[3]  # imagenet alone, once out of a suite and once out of its folder
    assert len(set(judged)) == 3
    assert b'"skipped": {' in open_store(f"{tmp_path}/store").read(judged[2])
    assert "imagenet_acc1" in told[-1]["metrics"]


def test_every_layout_and_kind_is_on_the_page() -> None:
    rows = re.findall(r"^\| `?(\w+)`? \|", PAGE, re.MULTILINE)
    assert set(LAYOUTS) <= set(rows)
    assert set(KINDS) <= set(rows)
    metrics = set(re.findall(r"`([\w@-]+)`", PAGE))
    for kind in KINDS.values():
        assert set(kind.MAIN) <= metrics
