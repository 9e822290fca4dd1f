"""The name of a model in, a refusal out if it cannot be made: asked of open_clip's configs, without torch.

Where open_clip is not installed, as in the image of `plan`, a list of what it has is asked (`KNOWN`). Written anew by
`python -m hqclip.train.architecture` where the release is installed that training uses.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.errors import ConfigError
from hqclip.foreign import translated
from hqclip.models.hub import check_address
from hqclip.settings import did_you_mean

MODELS = Path(__file__).parent / "models"  # configs of our own, beside open_clip's
KNOWN = Path(__file__).with_name("open_clip.json")
BATCH_NORM = ("RN", "MobileCLIP-", "MobileCLIP2-B", "MobileCLIP2-S")  # how models are called whose towers have it
PARTS = {"hf_tokenizer_name": "tokenizer_config.json", "hf_model_name": "config.json"}  # what is taken from a hub


def refusals(train: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> list[str]:
    """The models of the settings of `train` and its trials that do not exist, a sentence each."""
    return _unknown(known_models(), _names(train, trials))


def _unknown(known: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [
        f"unknown model {name!r}{did_you_mean(name, known) or '; give the name of an open_clip model'}"
        for name in names
        if name not in known
    ]


def check_models(train: Mapping[str, Any], trials: Iterable[Mapping[str, Any]], *, here: bool, ranks: int = 1) -> None:
    """Of the settings of `train` and its trials; `here` says whether they are trained on this machine, by `ranks`.

    Raises `ConfigError` for an unknown name, and for a model that several ranks cannot train. What a model takes from a
    hub, a tokenizer mostly, is fetched if it is to be trained here (`NotFoundError`, `AccessError`, `UnavailableError`
    if that fails), else it is only told.
    """
    known, names = known_models(), _names(train, trials)
    problems = _unknown(known, names)
    if ranks > 1:
        problems += [batch_norm_refusal(name, ranks) for name in names if name.startswith(BATCH_NORM)]
    if problems:
        raise ConfigError("\n".join(problems))
    for name in names:
        for file, source in known[name].items():
            if here and find_spec("open_clip"):
                with translated(f"model {name} needs {source} of a hub"):
                    from huggingface_hub import hf_hub_download

                    check_address()
                    hf_hub_download(source, file)
            else:
                needs = f"model {name} needs {source} of a hub"
                log.warning("plan", f"{needs}: the machines of train must have or reach it")


def batch_norm_refusal(name: str, ranks: int) -> str:
    """What is said of a model that would learn something else on many ranks than on one."""
    return (
        f"model {name} normalises over the batch, of which each of {ranks} ranks sees only its share; give a model "
        "without BatchNorm, or train it on one rank"
    )


def known_models() -> dict[str, dict[str, str]]:
    """All models by name, with the files that they take from a hub and whose they are."""
    spec = find_spec("open_clip")
    if spec is None or not spec.origin:
        return {**json.loads(KNOWN.read_text())["models"], **_read(MODELS)}
    return {**_read(Path(spec.origin).parent / "model_configs"), **_read(MODELS)}


def _read(folder: Path) -> dict[str, dict[str, str]]:
    """The configs of a folder."""
    texts = {path.stem: json.loads(path.read_text()).get("text_cfg", {}) for path in sorted(folder.glob("*.json"))}
    return {name: {file: text[part] for part, file in PARTS.items() if part in text} for name, text in texts.items()}


def _names(train: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(trial["settings"].get("model", train["model"])) for trial in trials))


def list_open_clip() -> str:
    """The content of `KNOWN`, by the open_clip that is installed."""
    models = {name: parts for name, parts in known_models().items() if not (MODELS / f"{name}.json").exists()}
    return json.dumps({"open_clip": importlib.metadata.version("open_clip_torch"), "models": models}, indent=1) + "\n"


if __name__ == "__main__":
    KNOWN.write_text(list_open_clip())
