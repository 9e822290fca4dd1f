"""The name of a model in, a refusal out if it cannot be made: asked of open_clip's configs, without torch.

Where open_clip is not installed, as in the image of `plan`, nobody can tell; `train` then does, before any other work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.errors import ConfigError
from hqclip.foreign import translated
from hqclip.settings import did_you_mean

MODELS = Path(__file__).parent / "models"  # configs of our own, beside open_clip's


def check_models(train: Mapping[str, Any], trials: Iterable[Mapping[str, Any]], *, here: bool) -> None:
    """Of the settings of `train` and its trials; `here` says whether they are trained on this machine.

    Raises `ConfigError` for an unknown name. What a model takes from a hub, a tokenizer mostly, is fetched if it is to
    be trained here (`NotFoundError`, `AccessError`, `UnavailableError` if that fails), else it is only told.
    """
    for name in dict.fromkeys(str(trial["settings"].get("model", train["model"])) for trial in trials):
        _check(name, here)


def _check(name: str, here: bool) -> None:
    spec = find_spec("open_clip")
    if spec is None or not spec.origin:
        return
    folders = (MODELS, Path(spec.origin).parent / "model_configs")
    configs = {path.stem: path for folder in folders for path in folder.glob("*.json")}
    if name not in configs:
        raise ConfigError(f"unknown model {name!r}{did_you_mean(name, configs)}")
    text = json.loads(configs[name].read_text()).get("text_cfg", {})
    wanted = {"hf_tokenizer_name": "tokenizer_config.json", "hf_model_name": "config.json"}
    for part, file in wanted.items():
        if part in text and here:
            with translated(f"model {name} needs {text[part]} of a hub"):
                from huggingface_hub import hf_hub_download

                hf_hub_download(text[part], file)
        elif part in text:
            log.warning(
                "plan", f"model {name} needs {text[part]} of a hub: the machines of train must have or reach it"
            )
