"""hqclip's dispatcher against vLLM alone, with the same requests and engine settings, as the vLLM tests run it:

`OMP_NUM_THREADS=1 PYTHONPATH=tests/vllm/shim:. .venv-vllm/bin/python benchmarks/annotate_engine.py`

Alone: every request, prepared and in memory, is given to the engine at once. hqclip: the whole stage, from shards on
disk to sidecars on disk, with an engine that is warm. The two take turns in one process; tokens a second of each, and
their ratio turn by turn. Writes annotate_engine.md.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hqclip.annotate import stage, worker
from hqclip.annotate.annotator import DEMO_MODEL
from hqclip.annotate.engines.protocol import Answer, Engine, EngineInfo, Request
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.preparation import Preparation
from hqclip.annotate.prompt import PROMPTS
from hqclip.annotate.retry_policy import RetryPolicy
from hqclip.config import AnnotateConfig, DemoWorldConfig, DownloadConfig
from hqclip.data.download import run as download
from hqclip.data.index import ShardImages, read_index
from hqclip.demo.world import make_world
from hqclip.records import Pool
from hqclip.store import open_store

IMAGES, TURNS = 1000, 5


class Warm:
    """An engine that is started once; stages that come and go neither start nor stop it."""

    def __init__(self, engine: Engine, info: EngineInfo, loop: asyncio.AbstractEventLoop) -> None:
        self._engine, self._info, self._loop = engine, info, loop

    async def start(self) -> EngineInfo:
        return self._info

    async def answer(self, request: Request) -> Answer:
        return await self._engine.answer(request)

    async def close(self) -> None:
        """It goes on."""


def requests_of(config: AnnotateConfig) -> list[Request]:
    """What the stage will ask, prepared."""
    store = open_store(config.store)
    retry_policy = RetryPolicy.of(config)
    preparation = Preparation.of(stage.Annotator.of(config), config.max_alt_tokens)
    found = []
    for entry in Pool.from_json(store.read(config.pool), config.pool).shards:
        index = read_index(store, entry)
        with ShardImages(store, entry, index) as images:
            for row, uid in enumerate(index.uids):
                picture = preparation.pixels(images.read(row))
                found.append(retry_policy.request(uid, picture, preparation.alt_text(index.texts[row])))
    return found


async def alone(engine: Engine, requests: Sequence[Request]) -> float:
    """Tokens a second with everything in the engine's queue at once."""
    start = time.perf_counter()
    answers = await asyncio.gather(*(engine.answer(request) for request in requests))
    return sum(answer.output_tokens for answer in answers) / (time.perf_counter() - start)


async def whole(config: AnnotateConfig) -> float:
    """Tokens a second of the stage's work, in this event loop; everything is annotated anew."""
    shutil.rmtree(Path(config.store) / "annotations", ignore_errors=True)
    start = time.perf_counter()
    annotator = stage.Annotator.of(config)
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    folder = annotator.write(store)
    await worker.Worker(config, store, annotator, folder, pool.shards).run()
    seconds = time.perf_counter() - start
    return stage._tally(store, folder, pool, annotator.digest).output_tokens / seconds


async def measure(folder: Path) -> list[tuple[float, float]]:
    world = make_world(DemoWorldConfig(store=str(folder / "world"), images=IMAGES, scenes=8))
    pool = download(DownloadConfig(store=str(folder / "store"), shards=world["shards"]))["pool"]
    config = AnnotateConfig(
        store=str(folder / "store"),
        pool=pool,
        engine="vllm",
        prompt="shapes-1",
        max_new_tokens=320,
        max_num_seqs=64,
        max_num_batched_tokens=2048,
        max_model_len=1024,
        grammar="off",
        attempts=1,
        decode_threads=1,
    )
    requests = requests_of(config)
    engine = make_engine(config, PROMPTS["shapes-1"], DEMO_MODEL)
    info = await engine.start()
    warm = Warm(engine, info, asyncio.get_running_loop())
    worker.make_engine = lambda *_: warm
    turns = []
    try:
        await alone(engine, requests[:200])
        for turn in range(TURNS):
            again = [replace(request, uid=f"{turn}{request.uid[1:]}") for request in requests]
            if turn % 2:
                second = await whole(config)
                turns.append((await alone(engine, again), second))
            else:
                turns.append((await alone(engine, again), await whole(config)))
    finally:
        await engine.close()
    return turns


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        turns = asyncio.run(measure(Path(name)))
    ratios = [through / bare for bare, through in turns]
    rows = "\n".join(f"| {bare:,.0f} | {through:,.0f} | {through / bare:.3f} |" for bare, through in turns)
    table = f"""# hqclip's dispatcher against vLLM alone

`python benchmarks/annotate_engine.py`: the tiny Qwen2-VL of the demo (1.6 M parameters) in vLLM's CPU build, {IMAGES} \
pictures a turn, 64 sequences at a time, greedy, Python {platform.python_version()}, {platform.machine()}, on \
{os.cpu_count()} shared CPU cores. Alone: requests prepared in memory, all given to the engine at once. hqclip: from \
shards on disk to sidecars on disk.

| vLLM alone, tokens/s | through hqclip, tokens/s | ratio |
|---|---|---|
{rows}

Median ratio: {statistics.median(ratios):.3f} (goal: 0.95 or more).
"""
    Path(__file__).with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    main()
