"""An exported CLIP: a model folder in, unit-length embeddings of images and texts out.

The folder is what `hqclip train` writes and what `open_clip.create_model_and_transforms('local-dir:...')` loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, cast

import open_clip
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from hqclip.data.images import Pixels
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.exported import CONFIG, WEIGHTS, check_digest, model_digest
from hqclip.foreign import translated
from hqclip.store import Store
from hqclip.store.documents import parse_json
from hqclip.store.leftovers import scratch_folder

_AGAIN = "bring it back, or export the model again"


class ExportedClip:
    """A CLIP for inference in float32.

    Raises `NotFoundError` (no such model), `DataError` (damaged, or not what its run trained) and `ConfigError` (it is
    whole, but open_clip does not know it).
    """

    def __init__(self, store: Store, key: str, threads: int = 0) -> None:
        self._where = f"{store.uri}/{key}"
        if threads:
            torch.set_num_threads(threads)
        if not store.exists(f"{key}/{CONFIG}") or not store.exists(f"{key}/{WEIGHTS}"):
            raise NotFoundError(
                f'{store.uri}/{key} holds no exported model; `hqclip train` prints the folder as "model"'
            )
        with scratch_folder() as folder:
            for name in (CONFIG, WEIGHTS):
                store.download(f"{key}/{name}", folder / name)
            with (folder / CONFIG).open("rb") as config, (folder / WEIGHTS).open("rb") as weights:
                self.digest = model_digest(config, weights)
            check_digest(store, key, self.digest)
            told = parse_json((folder / CONFIG).read_bytes(), f"{self._where}/{CONFIG}", _AGAIN)
            _refuse_code(told, f"{self._where}/{CONFIG}")
            self._mean, self._std = _colours(told, f"{self._where}/{CONFIG}")
            with translated(self._where):  # its tokenizer may come from a hub
                try:
                    self._model = open_clip.create_model(f"local-dir:{folder}").eval()
                    self._tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
                except SafetensorError as error:
                    raise DataError(f"{self._where}/{WEIGHTS} is damaged ({error}); {_AGAIN}") from error
                except (RuntimeError, KeyError, ValueError, TypeError) as error:
                    raise ConfigError(f"{self._where} does not load in open_clip: {error}") from error
        size = self._model.visual.image_size
        self._size: tuple[int, int] = size if isinstance(size, tuple) else (size, size)

    @torch.inference_mode()
    def images(self, images: Iterable[Pixels], batch_size: int) -> Tensor:
        """(images, D) from (height, width, 3) uint8 pictures."""
        parts = []
        fitted = (fit(image, self._size) for image in images)  # before a batch is gathered: pictures can be large
        for batch in _batches(fitted, batch_size):
            embedded = self._model.encode_image(normalise(torch.stack(batch), self._mean, self._std))
            parts.append(F.normalize(embedded.float(), dim=-1))
        return self._joined(parts)

    @torch.inference_mode()
    def texts(self, texts: Sequence[str], batch_size: int = 512) -> Tensor:
        """(texts, D)."""
        parts = [
            F.normalize(encode_text(self._model, self._tokenizer(list(batch))).float(), dim=-1)
            for batch in _batches(texts, batch_size)
        ]
        return self._joined(parts)

    def _joined(self, parts: list[Tensor]) -> Tensor:
        """Raises `DataError` for NaN: no comparison with it is true, and some metrics would call that right."""
        joined = torch.cat(parts) if parts else torch.empty(0, 1)
        if not joined.isfinite().all():
            raise DataError(f"{self._where} gives embeddings that are not finite; its weights are damaged, train again")
        return joined


def _colours(config: dict[str, Any], where: str) -> list[Tensor]:
    """Mean and standard deviation of the colours that the model was trained on, (1, 3, 1, 1). Raises `DataError`."""
    pixels = config.get("preprocess_cfg", {})
    try:
        return [torch.tensor(pixels[name], dtype=torch.float32).view(1, 3, 1, 1) for name in ("mean", "std")]
    except (RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"{where} is damaged: no mean and std of three colours ({error!r}); {_AGAIN}") from error


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
