"""Where the tiny LVLM lives: weights that ship with the package."""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """The model folder that transformers and vLLM load."""
    return Path(__file__).parent / "lvlm"
