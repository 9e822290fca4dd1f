"""Makes the store of a release: `tests/releases/0.1.tar.xz` is what this leaves behind with the code of 0.1.

Run it in an empty folder, with a checkout of the release as PYTHONPATH; `tests/test_release_store.py` says how to pack
it. The weights are coarse and hardly trained, so that they pack well; all else is what the release writes. Checkpoints
are taken out, as a person may do.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import open_clip
import torch

from hqclip.config import DemoWorldConfig
from hqclip.demo.world import make_world
from tests import cycle

create = open_clip.create_model


def coarse(*args: Any, **more: Any) -> Any:
    """A model whose matrices have one bit a weight, and whose words are nothing yet."""
    model = create(*args, **more)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "token_embedding" in name:
                weight.zero_()
            elif weight.ndim > 1:
                weight.copy_(weight.sign() * weight.std())
    return model


if __name__ == "__main__":
    open_clip.create_model = coarse
    few = {"train.samples_seen": 32, "train.learning_rate": 1e-12, "train.weight_decay": 0.0, "train.warmup": 0}
    cycle.TINY.update(few)
    world = make_world(DemoWorldConfig(store="world", images=24, scenes=8))
    print(json.dumps(cycle.Cycle("store", world, Path("tasks")).run("hqclip", cycle=1), indent=1))
    shutil.rmtree("tasks")
    for checkpoints in Path("store/runs").glob("*/checkpoints"):
        shutil.rmtree(checkpoints)
    for lock in Path().rglob(".hqclip-lock"):
        lock.unlink()
