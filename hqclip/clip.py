"""An exported CLIP: a model folder in, unit-length embeddings of images and texts out.

The folder is what `hqclip train` writes and what `open_clip.create_model_and_transforms('local-dir:...')` loads.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from hqclip.data.images import Pixels
from hqclip.errors import ConfigError, NotFoundError
from hqclip.store import Store

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"


class ExportedClip:
    """A CLIP for inference in float32. Raises `NotFoundError` (no such model), `ConfigError` (not an open_clip one)."""

    def __init__(self, store: Store, key: str, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        if not store.exists(f"{key}/{CONFIG}") or not store.exists(f"{key}/{WEIGHTS}"):
            raise NotFoundError(
                f'{store.uri}/{key} holds no exported model; `hqclip train` prints the folder as "model"'
            )
        with tempfile.TemporaryDirectory() as folder:
            for name in (CONFIG, WEIGHTS):
                store.download(f"{key}/{name}", Path(folder) / name)
            self.digest = model_digest((Path(folder) / CONFIG).read_bytes(), (Path(folder) / WEIGHTS).read_bytes())
            try:
                _refuse_code(json.loads((Path(folder) / CONFIG).read_bytes()), f"{store.uri}/{key}/{CONFIG}")
                self._model = open_clip.create_model(f"local-dir:{folder}").eval()
                self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
            except (RuntimeError, KeyError, ValueError, TypeError) as error:
                raise ConfigError(f"{store.uri}/{key} does not load in open_clip: {error}") from error
            pixels = json.loads((Path(folder) / CONFIG).read_text())["preprocess_cfg"]
        self._mean, self._std = (torch.tensor(pixels[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        size = self._model.visual.image_size
        self._size: tuple[int, int] = size if isinstance(size, tuple) else (size, size)

    @torch.inference_mode()
    def images(self, images: Iterable[Pixels], batch_size: int) -> Tensor:
        """(images, D) from (height, width, 3) uint8 pictures."""
        parts = []
        for batch in _batches(images, batch_size):
            pixels = torch.stack([fit(image, self._size) for image in batch])
            embedded = self._model.encode_image(normalise(pixels, self._mean, self._std))
            parts.append(F.normalize(embedded.float(), dim=-1))
        return torch.cat(parts) if parts else torch.empty(0, 1)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str], batch_size: int = 512) -> Tensor:
        """(texts, D)."""
        parts = [
            F.normalize(encode_text(self._model, self._tokenizer(list(batch))).float(), dim=-1)
            for batch in _batches(texts, batch_size)
        ]
        return torch.cat(parts) if parts else torch.empty(0, 1)


def _refuse_code(config: Any, where: str) -> None:
    """Raises `ConfigError` for a config with which a tokenizer or tower would run code of its author."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if name in ("trust_remote_code", "auto_map", "code_revision") and value:
            raise ConfigError(f"{where} asks to run code of the model's author ({name}): take that line out")
        _refuse_code(value, where)


def encode_text(model: Any, tokens_BL: Tensor) -> Tensor:
    """(B, D) not normalised, as `model.encode_text` gives it, without computing the padding that all texts share.

    In open_clip's classic tower no token sees a later one and the end token speaks for the text, so what follows the
    longest text changes nothing. Other towers get the tokens as they are.
    """
    classic = isinstance(model, open_clip.CLIP) and model.attn_mask is not None and model.text_pool_type == "argmax"
    if not classic:
        return cast(Tensor, model.encode_text(tokens_BL))
    ends_B = tokens_BL.argmax(-1)
    length = min(tokens_BL.shape[1], -(-(int(ends_B.max()) + 1) // 8) * 8)
    dtype = model.transformer.get_cast_dtype()
    x_BLW = model.token_embedding(tokens_BL[:, :length]).to(dtype) + model.positional_embedding[:length].to(dtype)
    x_BLW = model.ln_final(model.transformer(x_BLW, attn_mask=model.attn_mask[:length, :length]))
    x_BW = x_BLW[torch.arange(len(x_BLW), device=x_BLW.device), ends_B]
    projection = model.text_projection
    return cast(Tensor, projection(x_BW) if isinstance(projection, torch.nn.Linear) else x_BW @ projection)


def model_digest(config: bytes, weights: bytes) -> str:
    """Names a model by content: the first 16 hexadecimal digits of SHA-256 over config and weights."""
    return hashlib.sha256(hashlib.sha256(config).digest() + hashlib.sha256(weights).digest()).hexdigest()[:16]


def fit(image: Pixels, size: tuple[int, int]) -> Tensor:
    """(3, height, width) uint8: the shorter side resized (bicubic, anti-aliased), then the middle cut out."""
    pixels = torch.tensor(image).permute(2, 0, 1)
    height, width = size
    if pixels.shape[1:] == size:
        return pixels
    scale = max(height / pixels.shape[1], width / pixels.shape[2])
    new = (max(height, round(pixels.shape[1] * scale)), max(width, round(pixels.shape[2] * scale)))
    resized = F.interpolate(pixels[None].contiguous(), size=new, mode="bicubic", antialias=True)[0]
    top, left = (new[0] - height) // 2, (new[1] - width) // 2
    return resized[:, top : top + height, left : left + width]


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """uint8 pictures (B, 3, H, W) as the towers want them."""
    return (pixels.float() / 255 - mean) / std


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
