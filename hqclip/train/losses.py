"""The losses of HQ-CLIP. B: images, P: images with a negative, D: embedding width, T: tag vocabulary.

The paper (Wei et al., ICCV 2025, arXiv 2507.22431) names three parts: contrast on mixed text, hard-negative
identification, short-tag classification. Its equations are not published with its data; the forms here are the
closest published ones, and each docstring says whose.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def contrastive(image_BD: Tensor, text_BD: Tensor, scale: Tensor) -> Tensor:
    """Every image finds its text among the batch and the other way round; ln B for random embeddings.

    Unit-length rows. Radford et al., 2021.
    """
    logits_BB = scale * image_BD @ text_BD.T
    target_B = torch.arange(len(logits_BB), device=logits_BB.device)
    return (F.cross_entropy(logits_BB, target_B) + F.cross_entropy(logits_BB.T, target_B)) / 2


def hard_negative_identification(
    image_PD: Tensor, positive_PD: Tensor, negative_PD: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """How surely an image tells its own description from the false one, and how often; ln 2 is a coin toss.

    A softmax over each image's own two texts, as FG-CLIP does for regions (Xie et al., 2025); 0 if P is 0.
    Only images whose text is generated take part: else the model would learn the style of the annotator.
    """
    if not len(image_PD):
        return scale.new_zeros(()), scale.new_zeros(())
    margin_P = scale * ((image_PD * positive_PD).sum(-1) - (image_PD * negative_PD).sum(-1))
    return F.softplus(-margin_P).mean(), (margin_P > 0).float().mean()


def short_tag_classification(logits_BT: Tensor, target_BT: Tensor, weight_BT: Tensor) -> Tensor:
    """Which tags of the vocabulary belong to the image, each by itself.

    Binary cross-entropy summed over the vocabulary and divided by the number of true tags, so that it is of the
    order of 1 whatever the vocabulary's size; images without a tag in the vocabulary take no part; 0 if there are none.
    """
    has_tags_B = target_BT.any(1)
    if not has_tags_B.any():
        return logits_BT.sum() * 0
    each_BT = F.binary_cross_entropy_with_logits(logits_BT, target_BT, weight_BT, reduction="none")
    return each_BT[has_tags_B].sum() / target_BT[has_tags_B].sum()


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
