"""A batch in, a better model and the losses out: forward, backward, update, on every rank at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hqclip.config import TrainConfig
from hqclip.errors import ConfigError, DataError
from hqclip.train.batches import Batch
from hqclip.train.distributed import Ranks
from hqclip.train.losses import contrastive, hard_negative_identification, short_tag_classification
from hqclip.train.model import Embeddings, HQClip

MAX_LOGIT_SCALE = math.log(100)  # Radford et al., 2021


class Step:
    """The model under training with its optimizer; after every step both are the same on all ranks."""

    def __init__(self, model: HQClip, optimizer: torch.optim.Optimizer, config: TrainConfig, ranks: Ranks) -> None:
        self._model, self._optimizer, self._config, self._ranks = model, optimizer, config, ranks
        # a static graph, for some models have parameters that none of the losses asks for
        self._spread: nn.Module = (
            model
            if ranks.world == 1
            else DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)
        )

    def __call__(self, batch: Batch, done: float, asked: bool) -> tuple[dict[str, float], bool]:
        """Forward, backward, update; the losses of the whole step, and whether any rank is `asked` to stop.

        `done` is the share of the budget spent. Raises `DataError`, on all ranks, if the gradient is not finite.
        """
        config = self._config
        batch = batch.to(self._ranks.device)
        with torch.autocast(self._ranks.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            out = self._spread(batch.pixels_B3HW, batch.text_BL, batch.negative_PL)
        losses = self._losses(out, batch, min(1.0, done / config.negative_ramp) if config.negative_ramp else 1.0)
        self._optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.grad_clip or math.inf)
        values = {**losses, "gradient_norm": norm, "logit_scale": out.scale}
        measured = torch.stack([*values.values(), norm.new_tensor(float(asked))])
        *means, num_asked = self._ranks.mean(measured).tolist()
        named = dict(zip(values, means, strict=True))
        if not math.isfinite(named["gradient_norm"]):
            raise DataError(
                f"the gradient is not finite (loss {named['loss']}); lower learning_rate or set precision fp32"
            )
        self._optimizer.step()
        with torch.no_grad():
            self._model.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        return named, num_asked > 0

    def _losses(self, out: Embeddings, batch: Batch, ramp: float) -> dict[str, Tensor]:
        """This rank's share of the losses; `ramp` is how far the weight of the negatives has risen."""
        config, width, num_own = self._config, out.image_BD.shape[1], len(out.image_BD)
        both_ND = self._ranks.gather(torch.cat([out.image_BD.float(), out.text_BD.float()], dim=1))
        own = slice(self._ranks.rank * num_own, (self._ranks.rank + 1) * num_own)
        contrast = contrastive(both_ND[:, :width], both_ND[:, width:], out.scale, own)
        num_negatives = len(out.negative_PD)
        negatives, accuracy = hard_negative_identification(
            out.image_BD[:num_negatives].float(),
            out.text_BD[:num_negatives].float(),
            out.negative_PD.float(),
            out.scale,
            batch.num_negatives,
        )
        tags = short_tag_classification(out.tag_logits_BT.float(), batch.target_BT, batch.weight_BT, batch.num_tags)
        return {
            "loss": contrast + config.negative_weight * ramp * negatives + config.tag_weight * tags,
            "contrastive": contrast,
            "negatives": negatives,
            "tags": tags,
            "negative_accuracy": accuracy,
        }


def check_spreads(model: HQClip, ranks: Ranks) -> None:
    """Raises `ConfigError` for a model that would learn something else on many ranks than on one."""
    if ranks.world > 1 and any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in model.modules()):
        raise ConfigError(
            f"model {model.name} normalises over the batch, of which each of {ranks.world} ranks sees only its share; "
            "give a model without BatchNorm, or train it on one rank"
        )


def adamw(model: HQClip, config: TrainConfig) -> torch.optim.AdamW:
    """The optimizer; weight decay for matrices only, as open_clip has it. Each step sets its own learning rate."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": free, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, config.beta2), eps=1e-6, fused=True)


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to 0, as open_clip has it; a warm-up longer than half the run is cut to that."""
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
