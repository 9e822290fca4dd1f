"""A request that no engine can mind: a plain picture with a plain text."""

from __future__ import annotations

import numpy as np

from hqclip.annotate.engines.protocol import Request

SIDE = 64  # pixels: above the least and below the most that any family of LVLMs takes


def plain_request() -> Request:
    """Always the same."""
    return Request("0" * 32, np.full((SIDE, SIDE, 3), 128, np.uint8), "a grey square")
