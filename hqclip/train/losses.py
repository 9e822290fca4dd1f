"""The losses of HQ-CLIP. B: images of this rank, N: of all ranks, P: images of this rank with a negative,
D: embedding width, T: tag vocabulary.

Each is this rank's share of a loss of the whole step, scaled so that the mean over the ranks is that loss; beside it
stands what else is measured, as such a share too.

The paper (Wei et al., ICCV 2025, arXiv 2507.22431) names three parts: contrast on mixed text, hard-negative
identification, short-tag classification. Its equations are not published with its data; the forms here are the
closest published ones, and each docstring says whose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from hqclip.train.batches import Batch


@dataclass(frozen=True)
class Outputs:
    """What the model made of a batch: unit-length rows of this rank's images, texts and negatives, and tag logits.

    These have the precision of the towers, so losses begin with `float()`. Negatives are those of the first P images.
    `all_images_ND` and `all_texts_ND` (fp32) are those of all ranks, of which `rows` are this rank's.
    """

    image_BD: Tensor
    text_BD: Tensor
    negative_PD: Tensor
    tag_logits_BT: Tensor
    scale: Tensor
    all_images_ND: Tensor
    all_texts_ND: Tensor
    rows: slice


LossFunction = Callable[[Outputs, Batch], tuple[Tensor, dict[str, Tensor]]]


def contrastive(outputs: Outputs, _: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Every image finds its text among the texts of all and the other way round; ln N for random embeddings.

    This rank asks for its own rows only, so no rank holds more than B x N similarities. Radford et al., 2021.
    """
    image_ND, text_ND, rows = outputs.all_images_ND, outputs.all_texts_ND, outputs.rows
    target_B = torch.arange(len(image_ND), device=image_ND.device)[rows]
    to_text_BN = outputs.scale * image_ND[rows] @ text_ND.T
    to_image_BN = outputs.scale * text_ND[rows] @ image_ND.T
    return (F.cross_entropy(to_text_BN, target_B) + F.cross_entropy(to_image_BN, target_B)) / 2, {}


def hard_negative_identification(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """How surely an image tells its own description from the false one; ln 2 is a coin toss. Shown: how often.

    A softmax over each image's own two texts, as FG-CLIP does for regions (Xie et al., 2025); 0 if there are none.
    Only images whose text is generated take part: else the model would learn the style of the annotator.
    """
    num_own = len(outputs.negative_PD)
    image_PD, text_PD = outputs.image_BD[:num_own].float(), outputs.text_BD[:num_own].float()
    negative_PD = outputs.negative_PD.float()
    margin_P = outputs.scale * ((image_PD * text_PD).sum(-1) - (image_PD * negative_PD).sum(-1))
    count = batch.num_negatives or 1.0
    return F.softplus(-margin_P).sum() / count, {"negative_accuracy": (margin_P > 0).float().sum() / count}


def short_tag_classification(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Which tags of the vocabulary belong to the image, each by itself.

    Binary cross-entropy summed over the vocabulary and divided by the number of true tags, so that it is of the
    order of 1 whatever the vocabulary's size; images without a tag in the vocabulary take no part; 0 if there are none.
    """
    weight_BT = batch.weight_BT * batch.target_BT.any(1, keepdim=True)
    logits_BT = outputs.tag_logits_BT.float()
    total = F.binary_cross_entropy_with_logits(logits_BT, batch.target_BT, weight_BT, reduction="sum")
    return total / (batch.num_tags or 1.0), {}


FUNCTIONS: dict[str, LossFunction] = {  # by their names in `hqclip/recipes.py`
    "contrastive": contrastive,
    "negatives": hard_negative_identification,
    "tags": short_tag_classification,
}
