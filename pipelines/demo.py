"""What the demo presets put into the pipeline: the shapes world, drawn when it is not there yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world

SIZES = {"demo": (6000, 500), "demo-quick": (600, 60)}  # pictures in the pool, pictures for each benchmark


def demo_inputs(preset: str, out: Path, cycle: int) -> dict[str, Any]:
    """Pipeline inputs for one cycle. The first compares what each part brings, the next what better data brings."""
    images, scenes = SIZES[preset]
    world = make_world(DemoWorldConfig(store=str(out.resolve() / "world"), images=images, scenes=scenes))
    return {
        "store": str(out.resolve() / "store"),
        "download_shards": world["shards"],
        "evaluate_suite": world["suite"],
        "plan_cycle": cycle,
        "train_trials": "raw,mixed,hqclip" if cycle == 1 else "hqclip",
    }
