"""The table of engines: `--engine NAME` in, the engine out. Its module is imported only when it is asked for."""

from __future__ import annotations

import importlib
from pathlib import Path

from hqclip.annotate.engines.protocol import Engine
from hqclip.annotate.prompt import Prompt
from hqclip.config import AnnotateConfig

ENGINES = {  # module and class, for the names that `hqclip.config` allows
    "transformers": ("hqclip.annotate.engines.transformers", "TransformersEngine"),
    "vllm": ("hqclip.annotate.engines.vllm", "VllmEngine"),
    "openai": ("hqclip.annotate.engines.openai", "OpenAIEngine"),
    "replay": ("hqclip.annotate.engines.replay", "ReplayEngine"),
}


def make_engine(config: AnnotateConfig, prompt: Prompt, model: Path | str) -> Engine:
    """The engine that `config.engine` names, not yet started.

    `model` is a folder for the engines that run a model themselves (`LOCAL_ENGINES`), else what its server calls it.
    """
    module, name = ENGINES[config.engine]
    engine: Engine = getattr(importlib.import_module(module), name)(config, prompt, model)
    return engine


def model_digest(config: AnnotateConfig) -> str:
    """What stands for the content of a model that is in no folder: its engine knows."""
    digest: str = importlib.import_module(ENGINES[config.engine][0]).model_digest(config)
    return digest
