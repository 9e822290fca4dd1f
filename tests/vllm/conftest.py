"""The real vLLM on a CPU, with the tiny LVLM of the demo; `make test-vllm` runs these in a place of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqclip.annotate.annotator import DEMO_MODEL
from hqclip.annotate.engines.protocol import Engine, EngineInfo, Request
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.prompt import PROMPTS
from hqclip.config import AnnotateConfig
from hqclip.demo.scenes import draw_scene, render
from tests.engine_contract import Subject

PROMPT = PROMPTS["shapes-1"]
SETTINGS: dict[str, Any] = {
    "store": "s",
    "pool": "p",
    "engine": "vllm",
    "prompt": "shapes-1",
    "max_new_tokens": 320,
    "max_num_seqs": 16,
    "max_num_batched_tokens": 1024,
    "max_model_len": 1024,
}


def make(**changed: Any) -> Engine:
    """A vLLM engine with the tiny LVLM, not yet started."""
    return make_engine(AnnotateConfig(**{**SETTINGS, **changed}), PROMPT, DEMO_MODEL)


def draw_requests(number: int) -> list[Request]:
    """Pictures of the shapes world to ask about, the same every time."""
    rng = np.random.default_rng(72)
    return [
        Request(f"{n:032x}", np.asarray(render(draw_scene(rng, (1, 2, 3)), rng)), f"img_{n}.jpg") for n in range(number)
    ]


class Started:
    """An engine and the event loop that it lives in."""

    def __init__(self, runner: asyncio.Runner, engine: Engine, info: EngineInfo) -> None:
        self.runner, self.engine, self.info = runner, engine, info

    def subject(self, number: int = 8) -> Subject:
        return Subject(make, draw_requests(number), PROMPT, self.engine, self.info)


@pytest.fixture(scope="session")
def started() -> Iterator[Started]:
    engine = make()
    with asyncio.Runner() as runner:
        yield Started(runner, engine, runner.run(engine.start()))
        runner.run(engine.close())


@pytest.fixture
def pool(tmp_path: Path) -> AnnotateConfig:
    """A store with two shards of the shapes world, and the settings to annotate it with vLLM."""
    from hqclip.config import DemoWorldConfig, DownloadConfig
    from hqclip.data.download import run as download
    from hqclip.demo.world import make_world

    world = make_world(DemoWorldConfig(store=str(tmp_path / "world"), images=600, scenes=8))
    result = download(DownloadConfig(store=str(tmp_path / "store"), shards=world["shards"]))
    return AnnotateConfig(**{**SETTINGS, "store": str(tmp_path / "store"), "pool": result["pool"]})
