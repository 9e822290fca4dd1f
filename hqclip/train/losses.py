"""The losses of HQ-CLIP. B: images of this rank, N: of all ranks, P: images of this rank with a negative,
D: embedding width, T: tag vocabulary.

Each is this rank's share of a loss of the whole step, scaled so that the mean over the ranks is that loss.

The paper (Wei et al., ICCV 2025, arXiv 2507.22431) names three parts: contrast on mixed text, hard-negative
identification, short-tag classification. Its equations are not published with its data; the forms here are the
closest published ones, and each docstring says whose.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(image_ND: Tensor, text_ND: Tensor, scale: Tensor, rows: slice = slice(None)) -> Tensor:
    """Every image finds its text among the texts of all and the other way round; ln N for random embeddings.

    Unit-length rows, of which this rank asks for `rows`; so no rank holds more than B x N similarities.
    Radford et al., 2021.
    """
    target_B = torch.arange(len(image_ND), device=image_ND.device)[rows]
    to_text_BN = scale * image_ND[rows] @ text_ND.T
    to_image_BN = scale * text_ND[rows] @ image_ND.T
    return (F.cross_entropy(to_text_BN, target_B) + F.cross_entropy(to_image_BN, target_B)) / 2


def hard_negative_identification(
    image_PD: Tensor, positive_PD: Tensor, negative_PD: Tensor, scale: Tensor, number: float
) -> tuple[Tensor, Tensor]:
    """How surely an image tells its own description from the false one, and how often; ln 2 is a coin toss.

    A softmax over each image's own two texts, as FG-CLIP does for regions (Xie et al., 2025); 0 if there are none.
    `number` is P, its mean over the ranks if there are more.
    Only images whose text is generated take part: else the model would learn the style of the annotator.
    """
    margin_P = scale * ((image_PD * positive_PD).sum(-1) - (image_PD * negative_PD).sum(-1))
    each = number or 1.0
    return F.softplus(-margin_P).sum() / each, (margin_P > 0).float().sum() / each


def short_tag_classification(logits_BT: Tensor, target_BT: Tensor, weight_BT: Tensor, number: float) -> Tensor:
    """Which tags of the vocabulary belong to the image, each by itself.

    Binary cross-entropy summed over the vocabulary and divided by the number of true tags, so that it is of the
    order of 1 whatever the vocabulary's size; images without a tag in the vocabulary take no part; 0 if there are none.
    `number` is that of the true tags, its mean over the ranks if there are more.
    """
    weight_BT = weight_BT * target_BT.any(1, keepdim=True)
    return F.binary_cross_entropy_with_logits(logits_BT, target_BT, weight_BT, reduction="sum") / (number or 1.0)


def tag_targets(
    tags: list[list[int]], neg_tags: list[list[int]], size: int, false_tag_weight: float
) -> tuple[Tensor, Tensor]:
    """Targets (B, T), 1 for every tag; weights (B, T), `false_tag_weight` where the LVLM denies a tag and else 1."""
    target_BT = torch.zeros(len(tags), size)
    weight_BT = torch.ones(len(tags), size)
    for row, (true, false) in enumerate(zip(tags, neg_tags, strict=True)):
        weight_BT[row, false] = false_tag_weight
        weight_BT[row, true] = 1.0
        target_BT[row, true] = 1.0
    return target_BT, weight_BT
