"""How well the tiny LVLM reads the shapes world: `python benchmarks/demo_lvlm.py [MODEL] [SCENES]`.

Fresh scenes that no lesson held, the demo's own prompt, greedy decoding; truth comes from the scene graphs.
Prints one JSON object with shares from 0 to 1.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from hqclip.annotate.answer import read_answer
from hqclip.annotate.engines.protocol import Answer, Finish, Request
from hqclip.annotate.engines.transformers import TransformersEngine
from hqclip.annotate.prompt import PROMPTS
from hqclip.config import AnnotateConfig
from hqclip.demo.lvlm import folder
from hqclip.demo.scenes import draw_scene, render
from hqclip.demo.texts import alt_text
from hqclip.demo.truth import is_true, true_attributes

SEED = 990_099  # far from the seeds of the lessons and of the pool
BATCH = 64


def measure(model: str, num_scenes: int, held_out: bool) -> dict[str, float]:
    """Shares of valid answers and of statements that are what they claim to be."""
    rng = np.random.default_rng(SEED + held_out)
    scenes = [draw_scene(rng, held_out=held_out) for _ in range(num_scenes)]
    requests = [
        Request(f"{i:032x}", np.asarray(render(scene, rng)), alt_text(scene, rng)) for i, scene in enumerate(scenes)
    ]
    answers, seconds = asyncio.run(ask(model, requests))
    tally: Counter[str] = Counter()
    for scene, answer in zip(scenes, answers, strict=True):
        annotation, status = read_answer(answer.text, answer.finish is Finish.STOP)
        tally[status] += 1
        if annotation is None:
            continue
        for name, wanted in (("tags", True), ("neg_tags", False), ("desc", True), ("neg_desc", False)):
            for text in getattr(annotation, name):
                tally[f"{name} said"] += 1
                tally[f"{name} kept"] += is_true(scene, text) is wanted
        for text in annotation.desc:
            true, stated = true_attributes(scene, text)
            tally["attributes kept"] += true
            tally["attributes said"] += stated
    share = {
        f"{name} {claim}": tally[f"{name} kept"] / max(tally[f"{name} said"], 1)
        for name, claim in (
            ("attributes", "true"),
            ("desc", "true"),
            ("tags", "true"),
            ("neg_desc", "false"),
            ("neg_tags", "false"),
        )
    }
    negatives = tally["neg_desc said"] + tally["neg_tags said"]
    return {
        "scenes": num_scenes,
        "valid answers": tally["ok"] / num_scenes,
        **share,
        "negatives false": (tally["neg_desc kept"] + tally["neg_tags kept"]) / max(negatives, 1),
        "output tokens a second": sum(a.output_tokens for a in answers) / seconds,
        "output tokens an answer": sum(a.output_tokens for a in answers) / num_scenes,
    }


async def ask(model: str, requests: list[Request]) -> tuple[list[Answer], float]:
    """The answers in order, and the seconds they took without loading."""
    config = AnnotateConfig(store="-", pool="-", prompt="shapes-1", batch_size=BATCH, max_new_tokens=320)
    engine = TransformersEngine(config, PROMPTS["shapes-1"], Path(model))
    await engine.start()
    start = time.perf_counter()
    answers = await asyncio.gather(*(engine.answer(request) for request in requests))
    seconds = time.perf_counter() - start
    await engine.close()
    return answers, seconds


if __name__ == "__main__":
    model = sys.argv[1] if len(sys.argv) > 1 else str(folder())
    scenes = int(sys.argv[2]) if len(sys.argv) > 2 else 500
    print(
        json.dumps(
            {
                "held-out scenes": measure(model, scenes, held_out=False),
                "held-out scenes with colour-shape pairs of no lesson": measure(model, scenes, held_out=True),
            },
            indent=1,
        )
    )
