"""A CLIP by its name in, unit-length embeddings of images and texts out: on a GPU where there is one.

On a CPU all is float32. On a GPU the towers calculate in bf16, and their embeddings are float32 from there on, so that
what is made of them, similarities first of all, is float32 on every machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from hqclip import log
from hqclip.clip.decoders import Picture, prepared
from hqclip.clip.device import find_device
from hqclip.clip.loading import load
from hqclip.clip.towers import encode_text, fit, normalise, pads_for_nothing
from hqclip.data.images import Pixels
from hqclip.errors import DataError
from hqclip.store import Store


class TextBatch(NamedTuple):
    """Texts that are embedded together: their places among all, and their tokens."""

    places_B: Tensor
    tokens_BL: Tensor


def in_order(batches: Sequence[TextBatch], embedded_ND: Tensor) -> Tensor:
    """(texts, D): what was embedded batch after batch, in the order of the texts."""
    return torch.empty_like(embedded_ND).index_copy_(0, torch.cat([batch.places_B for batch in batches]), embedded_ND)


class ExportedClip:
    """A CLIP for inference, by the key of its folder in the store or another name that `sources` knows.

    `digest` names its content, `device` says where it runs and how it calculates. Raises `NotFoundError` (no such
    model), `DataError` (damaged, or not what its run trained), `ConfigError` (it is whole, but open_clip does not know
    it) and `MissingSoftwareError` (no such device).
    """

    def __init__(self, store: Store, key: str, threads: int = 0, device: str = "auto", decode_threads: int = 4) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.device = find_device(device)
        loaded = load(store, key)
        self.digest, self._where = loaded.digest, loaded.where
        self._model = loaded.model.to(self.device.place)
        self._tokenizer = loaded.tokenizer
        self._preprocess = loaded.preprocess
        mean, std = loaded.preprocess.mean, loaded.preprocess.std
        self._mean, self._std = mean.to(self.device.place), std.to(self.device.place)
        self._decode_threads = decode_threads
        self._most: int | None = None  # rows that the device has memory for, once it had too little

    def images(self, images: Iterable[Picture], batch_size: int) -> Tensor:
        """(images, D) float32 on the CPU."""
        parts = list(self.image_batches(images, batch_size))
        return torch.cat(parts) if parts else torch.empty(0, 1)

    def image_batches(self, images: Iterable[Picture], batch_size: int) -> Iterator[Tensor]:
        """(batch, D) after (batch, D) of float32 on the CPU; the pictures of the next one are decoded meanwhile.

        Raises what reading a picture raises, when its batch is due.
        """
        pictures = prepared(images, self._fitted, self._decode_threads, ahead=batch_size)
        try:
            while batch := list(islice(pictures, batch_size)):
                yield self._embed(self._encode_images, torch.stack(batch))
        finally:
            pictures.close()

    def texts(self, texts: Sequence[str], batch_size: int = 512) -> Tensor:
        """(texts, D) float32 on the CPU, in the order of the texts."""
        batches = self.text_batches(texts, batch_size)
        if not batches:
            return torch.empty(0, 1)
        return in_order(batches, torch.cat([self.text_batch(batch) for batch in batches]))

    def text_batches(self, texts: Sequence[str], batch_size: int = 512) -> list[TextBatch]:
        """All texts, sorted by length into full batches, since a batch costs as much as its longest text.

        The last ones, which fill none, stay together.
        """
        if not texts:
            return []
        tokens_NL: Tensor = self._tokenizer(list(texts))
        order_N = torch.arange(len(texts))
        if pads_for_nothing(self._model):
            full = len(texts) // batch_size * batch_size
            order_N[:full] = tokens_NL[:full].argmax(-1).argsort(stable=True)
        parts = (order_N[start : start + batch_size] for start in range(0, len(texts), batch_size))
        return [TextBatch(part_B, tokens_NL[part_B]) for part_B in parts]

    def readings(self, texts: Sequence[str]) -> list[bytes]:
        """What the text tower is shown of each text: equal for those that are one text to the model.

        Its tokenizer may know no capitals, and cuts off what goes beyond the context length.
        """
        return [row_L.tobytes() for row_L in self._tokenizer(list(texts)).int().numpy()] if texts else []

    def text_batch(self, batch: TextBatch) -> Tensor:
        """(batch, D) float32 on the CPU."""
        return self._embed(self._encode_texts, batch.tokens_BL)

    def _fitted(self, image: Pixels) -> Tensor:
        return fit(image, self._preprocess.size, self._preprocess.interpolation, self._preprocess.squash)

    def _encode_images(self, pixels_B3HW: Tensor) -> Tensor:
        return cast(Tensor, self._model.encode_image(normalise(pixels_B3HW, self._mean, self._std)))

    def _encode_texts(self, tokens_BL: Tensor) -> Tensor:
        return encode_text(self._model, tokens_BL)

    def _embed(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        """(rows, D): in halves, this and all later batches, where the device has too little memory for the whole.

        Raises `DataError` for NaN: no comparison with it is true, and some metrics would call that right.
        """
        parts: list[Tensor] = []
        while len(rows):
            some = rows[: self._most]
            try:
                parts.append(self._on_device(encode, some))
            except torch.OutOfMemoryError:
                if len(some) == 1:
                    raise
            else:
                rows = rows[len(some) :]
                continue
            self._halve(len(some))  # out of the handler, which holds what the device has no room for
        embedded = torch.cat(parts)
        if not embedded.isfinite().all():
            raise DataError(f"{self._where} gives embeddings that are not finite; its weights are damaged, train again")
        return embedded

    @torch.inference_mode()
    def _on_device(self, encode: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
        place, precision = self.device
        with torch.autocast(place.type, precision, enabled=precision != torch.float32):
            encoded = encode(rows.to(place))
        return F.normalize(encoded.float(), dim=-1).cpu()

    def _halve(self, size: int) -> None:
        if self._most is None:
            log.warning(
                "clip",
                f"{self.device.place} has too little memory for {size} images or texts at a time; smaller batches are "
                "tried. A smaller batch_size saves the trying",
            )
        self._most = size // 2
        if self.device.place.type == "cuda":
            torch.cuda.empty_cache()
