"""A model by its name in, its towers, tokenizer and preprocessing out, with a digest of what was loaded."""

from __future__ import annotations

from typing import Any, NamedTuple

import open_clip
import torch
from safetensors import SafetensorError
from torch import Tensor

from hqclip.clip.sources import AGAIN, ModelFiles, model_files
from hqclip.errors import ConfigError, DataError
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.foreign import loading
from hqclip.store import Store
from hqclip.store.documents import parse_json

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZES = ("shortest", "squash")


class Preprocess(NamedTuple):
    """How pictures become what the image tower was trained on: `size` is (height, width), the colours (1, 3, 1, 1)."""

    size: tuple[int, int]
    mean: Tensor
    std: Tensor
    interpolation: str
    squash: bool


class Loaded(NamedTuple):
    """An open_clip model in float32 on the CPU, and what belongs to it."""

    model: Any
    tokenizer: Any
    preprocess: Preprocess
    digest: str
    where: str


def load(store: Store, name: str) -> Loaded:
    """The model that `name` stands for, as `sources` says. Raises what `ExportedClip` says of its model."""
    with model_files(store, name) as files:
        where = f"{files.where}/{CONFIG}"
        config = parse_json((files.folder / CONFIG).read_bytes(), where, AGAIN)
        _refuse_code(config, where)
        mean, std = _colours(config, where)
        interpolation, squash = _resizing(config["preprocess_cfg"], where)
        _check_length(config, where)
        model, tokenizer = _towers(files)
    size = model.visual.image_size
    preprocess = Preprocess(size if isinstance(size, tuple) else (size, size), mean, std, interpolation, squash)
    return Loaded(model, tokenizer, preprocess, files.digest, files.where)


def _towers(files: ModelFiles) -> tuple[Any, Any]:
    folder = f"local-dir:{files.folder}"
    with loading(files.where, f"{files.where} does not load in open_clip", AGAIN):  # its tokenizer may be of a hub
        try:
            return open_clip.create_model(folder).eval(), open_clip.get_tokenizer(files.tokenizer or folder)
        except SafetensorError as error:
            raise DataError(f"{files.where}/{WEIGHTS} is damaged ({error}); {AGAIN}") from error


def _colours(config: dict[str, Any], where: str) -> list[Tensor]:
    """Mean and standard deviation of the colours that the model was trained on, (1, 3, 1, 1). Raises `DataError`."""
    pixels = config.get("preprocess_cfg", {})
    try:
        return [torch.tensor(pixels[name], dtype=torch.float32).view(1, 3, 1, 1) for name in ("mean", "std")]
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{where} is damaged: no mean and std of three colours ({error!r}); {AGAIN}") from error


def _check_length(config: dict[str, Any], where: str) -> None:
    """Raises `DataError` for a number of tokens that is none, at which open_clip fails only when it reads a text."""
    towers = config.get("model_cfg")
    text = towers.get("text_cfg") if isinstance(towers, dict) else None
    length = text.get("context_length", 1) if isinstance(text, dict) else 1
    if type(length) is not int or length < 1:
        raise DataError(f"{where} is damaged: context_length is {length!r}, no number of tokens; {AGAIN}")


def _resizing(pixels: dict[str, Any], where: str) -> tuple[str, bool]:
    """(interpolation, squash). Raises `ConfigError` for a way that is not known here."""
    asked = {"interpolation": INTERPOLATIONS, "resize_mode": RESIZES}
    for name, known in asked.items():
        if pixels.get(name, known[0]) not in known:
            raise ConfigError(f"{where} asks for {name} {pixels[name]!r}; known here: {', '.join(known)}")
    return pixels.get("interpolation", "bicubic"), pixels.get("resize_mode") == "squash"


def _refuse_code(config: Any, where: str) -> None:
    """Raises `ConfigError` for a config with which a tokenizer or tower would run code of its author."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if name in ("trust_remote_code", "auto_map", "code_revision") and value:
            raise ConfigError(f"{where} asks to run code of the model's author ({name}): take that line out")
        _refuse_code(value, where)
