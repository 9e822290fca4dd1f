"""What the demo presets put into the pipeline: the shapes world, drawn when it is not there yet."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world

SIZES = {"demo": (6000, 500), "demo-quick": (600, 60)}  # pictures in the pool, pictures for each benchmark


def demo_inputs(preset: str, out: Path, cycle: int, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Pipeline inputs for one cycle. The first compares what each part brings, the next what better data brings.

    The world is drawn where shards or suite were not chosen.
    """
    inputs = {
        "store": str(out.resolve() / "store"),
        "plan_cycle": cycle,
        "train_trials": "raw,mixed,hqclip" if cycle == 1 else "hqclip",
    }
    if {"download_shards", "evaluate_suite"} <= set(chosen):
        return inputs
    images, scenes = SIZES[preset]
    world = make_world(DemoWorldConfig(store=str(out.resolve() / "world"), images=images, scenes=scenes))
    return {**inputs, "download_shards": world["shards"], "evaluate_suite": world["suite"]}
