"""What runs the LVLM, behind one interface: requests in, one answer for each out, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hqclip.annotate.prompt import Prompt
from hqclip.config import AnnotateConfig
from hqclip.errors import ConfigError


@dataclass(frozen=True)
class Request:
    """One image, (height, width, 3) uint8 RGB, with its raw alt-text."""

    uid: str
    image: np.ndarray[Any, np.dtype[np.uint8]]
    alt_text: str


@dataclass(frozen=True)
class Answer:
    """What the LVLM said: `finished` is False when the token limit cut it; `error` is a fault of the engine."""

    text: str
    finished: bool
    prompt_tokens: int
    output_tokens: int
    error: str = ""


class Engine(Protocol):
    """Greedy and deterministic where the arithmetic allows: the same request gives the same answer."""

    def answer(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer a request, in the order given. A request that fails has an `error`; it never raises for one."""
        ...


def start_engine(config: AnnotateConfig, prompt: Prompt, model: str) -> Engine:
    """The engine that `config.engine` names, with `model` loaded. Raises `ConfigError`, `MissingSoftwareError`."""
    if config.engine == "transformers":
        from hqclip.annotate.transformers_engine import TransformersEngine

        return TransformersEngine(model, prompt, config.max_new_tokens, config.threads)
    raise ConfigError(f"unknown engine {config.engine!r}")
