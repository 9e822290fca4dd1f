"""An open_clip model with a tag head, as one module: a batch in, embeddings and tag logits out.

B: images, P: images with a negative, D: embedding width, T: tag vocabulary, L: tokens of a text.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from open_clip.push_to_hf_hub import save_config_for_hf
from safetensors.torch import save_file
from torch import Tensor, nn

from hqclip.clip import encode_text, normalise
from hqclip.errors import ConfigError
from hqclip.exported import CONFIG, WEIGHTS
from hqclip.foreign import translated
from hqclip.settings import did_you_mean
from hqclip.train.architecture import MODELS


class Embeddings(NamedTuple):  # of a kind that DistributedDataParallel looks into
    """What the losses want: unit-length rows, tag logits, and the scale of the similarities."""

    image_BD: Tensor
    text_BD: Tensor
    negative_PD: Tensor
    tag_logits_BT: Tensor
    scale: Tensor


class HQClip(nn.Module):
    """CLIP and a linear tag head on the image embedding. The head helps training; inference does without it.

    `tag_shares` says for each tag of the vocabulary which share of the samples has it.
    """

    def __init__(self, name: str, tag_shares: Sequence[float]) -> None:
        super().__init__()
        self.name = name
        with translated(f"model {name}"):  # some take tokenizer or text tower from a hub
            self.clip = _create(name)
            self.tokenizer = open_clip.get_tokenizer(name)
        self.config: dict[str, Any] = open_clip.get_model_config(name)
        self.tag_head = nn.Linear(self.config["embed_dim"], len(tag_shares))
        # begin with how often each tag occurs: what is left to learn is what the image says
        self.tag_head.bias.data.copy_(torch.logit(torch.tensor(tag_shares), eps=1e-4))
        size = self.clip.visual.image_size
        self.image_size: tuple[int, int] = size if isinstance(size, tuple) else (size, size)
        mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, pixels_B3HW: Tensor, text_BL: Tensor, negative_PL: Tensor) -> Embeddings:
        """uint8 pictures; token ids of the texts and of the negatives of the first P of them."""
        image_BD = self.clip.encode_image(normalise(pixels_B3HW, self.mean, self.std))
        text = F.normalize(encode_text(self.clip, torch.cat([text_BL, negative_PL])), dim=-1)
        return Embeddings(
            F.normalize(image_BD, dim=-1),
            text[: len(text_BL)],
            text[len(text_BL) :],
            self.tag_head(image_BD.float()),
            self.clip.logit_scale.exp(),
        )

    def export(self, folder: Path) -> None:
        """Write what stock open_clip loads by `local-dir:`, and the tag head beside it.

        A tokenizer that is not CLIP's own goes with it: that is where open_clip looks for it then.
        """
        folder.mkdir(parents=True, exist_ok=True)
        save_config_for_hf(self.clip, folder / CONFIG, self.config)
        _sort_keys(folder / CONFIG)
        if isinstance(self.tokenizer, open_clip.tokenizer.HFTokenizer):
            self.tokenizer.save_pretrained(folder)
        save_file({k: v.contiguous() for k, v in self.clip.state_dict().items()}, folder / WEIGHTS)
        save_file({k: v.contiguous() for k, v in self.tag_head.state_dict().items()}, folder / "tag_head.safetensors")


def _create(name: str) -> Any:
    """An untrained open_clip model. Raises `ConfigError` for an unknown name."""
    open_clip.add_model_config(MODELS)
    if name not in open_clip.list_models():
        raise ConfigError(f"unknown model {name!r}{did_you_mean(name, open_clip.list_models())}")
    logging.disable(logging.WARNING)  # that the weights are not pretrained is the point
    try:
        return open_clip.create_model(name, output_dict=True)
    finally:
        logging.disable(logging.NOTSET)


def _sort_keys(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True, indent=2) + "\n")
