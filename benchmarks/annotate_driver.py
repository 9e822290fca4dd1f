"""What annotation costs beside the engine: `OMP_NUM_THREADS=1 python benchmarks/annotate_driver.py`.

With an engine that answers at once from memory: how many images a second one core drives, decoding left out; whether
memory stays flat over a hundred shards; and how many images are asked about again after `kill -9`. Writes
annotate_driver.md.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image

from hqclip.annotate import partial_rows, stage, worker
from hqclip.annotate.engines.protocol import Answer, EngineInfo, Finish, Request
from hqclip.config import AnnotateConfig, DownloadConfig
from hqclip.data.download import run as download
from hqclip.data.images import decode
from hqclip.data.shards import write_shard
from hqclip.records import Sample

TEXT = json.dumps(
    {
        "tags": ["brown dog", "frisbee", "grass", "running", "park", "summer"],
        "neg_tags": ["black dog", "ball", "sand", "sleeping", "beach", "winter"],
        "desc": [
            "A brown dog runs across the grass in a park while people watch it.",
            "It carries a red frisbee in its mouth and looks happy.",
        ],
        "neg_desc": [
            "A black dog runs across the grass in a park while people watch it.",
            "It carries a tennis ball in its mouth and looks happy.",
        ],
    }
)
WINDOW = 512
KILLS = 8


class AtOnce:
    """Answers without computing anything; `log` receives every uid that was asked about."""

    def __init__(self, log: Path | None = None, delay_s: float = 0.0) -> None:
        self._log, self._delay_s = log.open("ab", buffering=0) if log else None, delay_s

    async def start(self) -> EngineInfo:
        return EngineInfo("at-once", "1", "cpu", 0, WINDOW, grammar=True)

    async def answer(self, request: Request) -> Answer:
        await asyncio.sleep(self._delay_s)
        if self._log:
            self._log.write(request.uid.encode() + b"\n")
        return Answer(TEXT, Finish.STOP, 500, 210)

    async def close(self) -> None:
        """Nothing to stop."""


def make_pool(folder: Path, num_shards: int, rows: int) -> AnnotateConfig:
    """Shards of one small picture; the settings to annotate them."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(buffer, "PNG")
    (folder / "pool").mkdir(parents=True)
    for shard in range(num_shards):
        samples = [Sample(f"{shard * rows + n:032x}", buffer.getvalue(), "brown dog, 2019") for n in range(rows)]
        write_shard(samples, folder / f"pool/{shard:05d}.tar")
    pool = download(DownloadConfig(store=str(folder / "store"), shards=str(folder / "pool")))["pool"]
    return AnnotateConfig(store=str(folder / "store"), pool=pool, prompt="shapes-1", in_flight=WINDOW, decode_threads=1)


def pace(folder: Path, runs: int, rows: int) -> list[float]:
    """Images for each second of processor time, with the time of decoding taken off."""
    worker.make_engine = lambda *_: AtOnce()
    found = []
    for number in range(runs + 1):
        config = make_pool(folder / f"pace-{number}", 2, rows)
        image = next(iter((folder / f"pace-{number}/pool").iterdir())).read_bytes()[512:]
        start = time.process_time()
        for _ in range(2 * rows):
            decode(image)
        decoding = time.process_time() - start
        start = time.process_time()
        stage.run(config)
        found.append(2 * rows / (time.process_time() - start - decoding))
    return found[1:]


def memory(folder: Path, num_shards: int, rows: int) -> list[float]:
    """MiB resident when each shard is finished."""
    config, resident = make_pool(folder / "memory", num_shards, rows), []
    finish = partial_rows.ShardRows.finish

    def finished(shard: Any, annotator: str) -> None:
        finish(shard, annotator)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        resident.append(pages * resource.getpagesize() / 2**20)

    partial_rows.ShardRows.finish = finished
    try:
        stage.run(config)
    finally:
        partial_rows.ShardRows.finish = finish
    return resident


def redone(folder: Path, rows: int) -> list[int]:
    """Images asked about more than once, for each of several kills at random moments."""
    rng, found = random.Random(0), []
    for number in range(KILLS):
        config = make_pool(folder / f"kill-{number}", 2, rows)
        log = folder / f"kill-{number}/asked"
        killed = subprocess.Popen([sys.executable, __file__, json.dumps(config.to_mapping()), str(log)])
        target = rng.randrange(rows // 2, 3 * rows // 2) * 33
        while not log.exists() or log.stat().st_size < target:
            time.sleep(0.005)
        killed.kill()
        killed.wait()
        before = log.stat().st_size // 33
        subprocess.run([sys.executable, __file__, json.dumps(config.to_mapping()), str(log)], check=True)
        found.append(log.stat().st_size // 33 - 2 * rows)
        assert before < 2 * rows
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = pace(folder, 5, 5000)
        resident = memory(folder, 100, 1000)
        again = redone(folder, 3000)
    cores = os.cpu_count()
    first, last = statistics.mean(resident[10:30]), statistics.mean(resident[-20:])
    table = f"""# What annotation costs beside the engine

`python benchmarks/annotate_driver.py`: an engine that answers at once, a window of {WINDOW}, Python \
{platform.python_version()}, {platform.machine()}, on {cores} shared CPU cores.

| | measured | goal |
|---|---|---|
| images for a second of one core, decoding left out (median of {len(rates)} runs of 10,000) | \
{statistics.median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | 2,000 or more |
| resident memory over 100 shards of 1,000: mean of the last 20 over mean of shards 11 to 30 | \
{last / first:.3f} ({first:.0f} to {last:.0f} MiB) | flat |
| images asked about again after `kill -9` at a random moment (largest of {KILLS}) | \
{max(again)} (all: {", ".join(map(str, again))}) | the window and 256: {WINDOW + 256} or fewer |
"""
    Path(__file__).with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        worker.make_engine = lambda *_: AtOnce(Path(sys.argv[2]), delay_s=0.02)
        stage.run(AnnotateConfig.from_mapping(json.loads(sys.argv[1])))
    else:
        main()
