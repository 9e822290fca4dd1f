"""How many GPUs this process can see, without a driver's library: by what it is told, else by the device files."""

from __future__ import annotations

import os
import re
from pathlib import Path

TOLD = "CUDA_VISIBLE_DEVICES"  # environment: numbers or UUIDs; empty or -1 hides all
DEVICES = Path("/dev")


def visible_gpus() -> int:
    """In a container those that it was given; a slice of one counts as one."""
    told = os.environ.get(TOLD)
    if told is not None:
        return sum(bool(word.strip()) and word.strip() != "-1" for word in told.split(","))
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in DEVICES.glob("nvidia*"))
