"""A pool of the shapes world and a teacher who sees what is in it, behind a server, with a wording of its own.

`python -m tests.distilling SETTINGS KILL_AT` runs `distill` with JSON settings and dies like kill -9 before the
KILL_AT-th object is published.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hqclip.config import DownloadConfig
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.demo.scenes import Scene, draw_scene, render
from hqclip.demo.texts import teacher_texts
from hqclip.distill import response_log
from hqclip.distill.config import DistillConfig
from hqclip.records import Sample
from tests.fakes.cut_short import die_at_change
from tests.fakes.openai_server import FakeOpenAI

PART_ROWS = 4


def wording(scene: Scene) -> dict[str, list[str]]:
    """What is true of the scene, as the tiny LVLM would never say it: tags have an article, the background is first."""
    texts = teacher_texts(scene)
    tags = {name: [f"a {tag}" for tag in texts[name]] for name in ("tags", "neg_tags")}
    return {**tags, **{name: texts[name][::-1] for name in ("desc", "neg_desc")}}


class World:
    """A store with a pool of `images` pictures in two shards; every alt-text names one picture."""

    def __init__(self, folder: Path, images: int, num_things: tuple[int, ...] = (1, 2)) -> None:
        rng = np.random.default_rng(2507)
        self.answers: dict[str, str] = {}
        samples = []
        for number in range(images):
            scene = draw_scene(rng, num_things)
            text = f"IMG_{number:04d}.jpg"
            self.answers[text] = json.dumps(wording(scene))
            buffer = io.BytesIO()
            render(scene, rng).save(buffer, "JPEG", quality=95, subsampling=0)
            samples.append(Sample(f"{number:032x}", buffer.getvalue(), text))
        half = (images + 1) // 2
        for shard, part in enumerate((samples[:half], samples[half:])):
            write_shard(part, folder / f"{shard:05d}.tar")
        self.store = str(folder / "store")
        self.pool = download(DownloadConfig(store=self.store, shards=f"{folder}/{{00000..00001}}.tar"))["pool"]

    def school(self) -> FakeOpenAI:
        """A server at which the teacher answers."""
        server = FakeOpenAI()
        for text, answer in self.answers.items():
            message = {"role": "assistant", "content": answer}
            server.fault(text, "choice", times=1 << 30, reply={"message": message})
        return server

    def settings(self, server: str, **given: Any) -> DistillConfig:
        """To teach the tiny LVLM of the demo with what the teacher says at `server`."""
        defaults: dict[str, Any] = {
            "teacher": "teacher",
            "model": "demo",
            "prompt": "shapes-1",
            "samples": 12,
            "held_out": 4,
            "in_flight": 3,
            "gradient_checkpointing": False,
            "threads": 1,
        }
        return DistillConfig(store=self.store, pool=self.pool, server=server, **{**defaults, **given})


def main(settings: str, kill_at: str) -> None:
    """Run until the kill."""
    from hqclip.distill.stage import run

    die_at_change(int(kill_at))
    response_log.PART_ROWS = PART_ROWS
    run(DistillConfig.from_mapping(json.loads(settings)))


if __name__ == "__main__":
    main(*sys.argv[1:])
