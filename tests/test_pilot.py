"""A sample of a pool, annotated by one LVLM or by several: its page, its pace, its price."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.annotate import pilot as pilots
from hqclip.annotate import worker
from hqclip.annotate.cost import estimate, price_of, priced
from hqclip.config import AnnotateConfig, CompareConfig, DownloadConfig, PilotConfig
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.errors import ConfigError
from hqclip.records import Sample
from tests.fakes.engines import ScriptedEngine, said
from tests.odd_pictures import pictures

WORK: dict[str, Any] = {"devices": ["NVIDIA H100 80GB HBM3"], "gpu_seconds": 7200.0, "images": 100_000}


@pytest.fixture
def settings(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> dict[str, Any]:
    (tmp_path / "pool").mkdir()
    for number in range(3):
        write_shard(draw_samples(20, first=100 * number), tmp_path / f"pool/{number:05d}.tar")
    store = str(tmp_path / "store")
    pool = download(DownloadConfig(store=store, shards=str(tmp_path / "pool")))["pool"]
    return {"store": store, "pool": pool, "prompt": "shapes-1"}


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedEngine]:
    made: list[ScriptedEngine] = []

    def make(config: AnnotateConfig, *_: Any) -> ScriptedEngine:
        made.append(ScriptedEngine({"alt-text 5": [said("no JSON <script>")]} if config.prompt == "web-1" else {}))
        return made[-1]

    monkeypatch.setattr(worker, "make_engine", make)
    return made


def test_a_pilot_shows_a_sample_and_asks_once(settings: dict[str, Any], engines: list[ScriptedEngine]):
    config = PilotConfig(**settings, samples=31)
    result = pilots.pilot(config)
    (run,) = result["results"]
    assert run["statuses"] == {"ok": 31}
    assert len({request.uid for request in engines[0].asked}) == 31
    page = (Path(config.store) / result["page"]).read_text()
    assert "an a" in page
    again = pilots.pilot(config)
    assert again["page"] == result["page"]
    assert len(engines) == 1, "what is annotated is not asked again"


def test_pictures_of_telephones_can_be_tried(tmp_path: Path, engines: list[ScriptedEngine]):
    """They hold a second picture; a sample of them becomes a shard of its own."""
    names = ["mpo", "apng", "animated webp", "cmyk", "png of 16 bits"]
    kinds = pictures()
    samples = [Sample(f"{n:032x}", kinds[name], f"alt-text {n}") for n, name in enumerate(names)]
    write_shard(samples, tmp_path / "00000.tar")
    store = str(tmp_path / "store")
    pool = download(DownloadConfig(store=store, shards=str(tmp_path / "00000.tar")))["pool"]
    result = pilots.pilot(PilotConfig(store=store, pool=pool, prompt="shapes-1", samples=len(samples)))
    assert result["results"][0]["statuses"] == {"ok": 5}
    assert (tmp_path / "store" / result["page"]).read_text().count("data:image/jpeg") == 5


def test_two_prompts_are_compared_on_the_same_images(settings: dict[str, Any], engines: list[ScriptedEngine]):
    result = pilots.compare(CompareConfig(**settings, samples=60, prompts=("shapes-1", "web-1")))
    asked = [{request.uid for request in engine.asked} for engine in engines]
    assert len(asked) == 2
    assert asked[0] == asked[1]
    assert [run["statuses"] for run in result["results"]] == [{"ok": 60}, {"not_json": 1, "ok": 59}]
    page = (Path(settings["store"]) / result["page"]).read_text()
    assert "web-1" in page
    assert "shapes-1" in page
    assert "no JSON &lt;script&gt;" in page
    assert "<script" not in page


def test_a_sample_larger_than_the_pool_is_refused(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match="samples is 61, but the pool has 60 images: give fewer"):
        pilots.pilot(PilotConfig(**settings, samples=61))


def test_the_same_lvlm_twice_is_no_comparison(settings: dict[str, Any]):
    with pytest.raises(ConfigError, match="2 models and prompts: give up to 8 different ones"):
        pilots.compare(CompareConfig(**settings, prompts=("web-1", "web-1")))


def test_dollars_follow_the_price_of_the_device():
    assert price_of("NVIDIA H100 80GB HBM3", ["L4=0.7", "H100=3.0"]) == 3.0
    assert price_of("NVIDIA L40S", ["L4=0.7"]) is None
    assert priced(WORK, ["H100=3"]) == {"usd_per_gpu_hour": 3.0, "usd": 6.0, "usd_per_million_images": 60.0}
    assert estimate(WORK, 1_000_000, ["H100=3"]) == {"images": 1_000_000, "gpu_hours": 20.0, "usd": 60.0}
    assert estimate(WORK, 1_000_000, []) == {"images": 1_000_000, "gpu_hours": 20.0}


def test_without_a_gpu_there_is_no_cost():
    assert priced({**WORK, "gpu_seconds": 0.0}, ["H100=3"]) == {}
    assert estimate({**WORK, "gpu_seconds": 0.0}, 10, ["H100=3"]) == {}
