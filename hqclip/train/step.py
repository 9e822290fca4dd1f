"""A batch in, a better model and the losses out: forward, backward, update, on every rank at once."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hqclip.config import TrainConfig
from hqclip.errors import ConfigError
from hqclip.ranks import Ranks
from hqclip.recipes import LOSSES
from hqclip.train.architecture import batch_norm_refusal
from hqclip.train.batches import Batch
from hqclip.train.losses import FUNCTIONS, Outputs
from hqclip.train.model import Embeddings, HQClip

MAX_LOGIT_SCALE = math.log(100)  # Radford et al., 2021


class Stepped(NamedTuple):
    """What became of a step, the same on all ranks."""

    losses: dict[str, float]
    stop: bool
    """Whether any rank wants to stop."""
    skipped: bool
    """Whether loss or gradient was not finite, so that nothing was learned."""


class Step:
    """The model under training with its optimizer; after every step both are the same on all ranks."""

    def __init__(self, model: HQClip, optimizer: torch.optim.Optimizer, config: TrainConfig, ranks: Ranks) -> None:
        self._model, self._optimizer, self._config, self._ranks = model, optimizer, config, ranks
        self._losses = {
            name: loss for name, loss in LOSSES.items() if loss.always_measured or loss.weight_at(vars(config))
        }
        self._running = running_statistics(model)
        self._forward: nn.Module = model if ranks.world_size == 1 else data_parallel(model)

    def __call__(self, batch: Batch, done: float, stop_requested: bool) -> Stepped:
        """Forward, backward, update; the losses of the whole step. `done` is the share of the budget spent.

        Where loss or gradient is not finite, the model stays as it was. The loss alone does not tell: it can be finite
        where its gradient is not.
        """
        config = self._config
        batch = batch.to(self._ranks.device)
        before = [statistic.clone() for statistic in self._running]
        with torch.autocast(self._ranks.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            embeddings = self._forward(batch.pixels_B3HW, batch.text_BL, batch.negative_PL)
        losses = self._measure(self._outputs(embeddings), batch, done)
        self._optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        norm = torch.nn.utils.clip_grad_norm_(self._model.parameters(), config.grad_clip or math.inf)
        values = {**losses, "gradient_norm": norm, "logit_scale": embeddings.scale}
        measured = torch.stack([*values.values(), norm.new_tensor(float(stop_requested))])
        *means, num_stopping = self._ranks.mean(measured).tolist()
        named = dict(zip(values, means, strict=True))
        skipped = not (math.isfinite(named["loss"]) and math.isfinite(named["gradient_norm"]))
        with torch.no_grad():
            if skipped:
                for statistic, value in zip(self._running, before, strict=True):
                    statistic.copy_(value)
            else:
                self._optimizer.step()
                self._model.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        return Stepped(named, num_stopping > 0, skipped)

    def set_learning_rate(self, rate: float) -> float:
        """For the steps that follow; `rate`."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _outputs(self, own: Embeddings) -> Outputs:
        """What the losses see: the embeddings of this rank, and those of all ranks beside them."""
        num_own, width = own.image_BD.shape
        both_ND = self._ranks.all_gather(torch.cat([own.image_BD.float(), own.text_BD.float()], dim=1))
        rows = slice(self._ranks.rank * num_own, (self._ranks.rank + 1) * num_own)
        return Outputs(*own, both_ND[:, :width], both_ND[:, width:], rows)

    def _measure(self, outputs: Outputs, batch: Batch, done: float) -> dict[str, Tensor]:
        """This rank's share of `loss`, the weighted sum, then of each part of it, then of what else they show."""
        total = torch.zeros_like(outputs.scale)
        values: dict[str, Tensor] = {}
        shown: dict[str, Tensor] = {}
        for name, loss in self._losses.items():
            values[name], more = FUNCTIONS[name](outputs, batch)
            total = total + loss.weight_at(vars(self._config), done) * values[name]
            shown.update(more)
        return {"loss": total, **values, **shown}


def data_parallel(model: HQClip) -> DistributedDataParallel:
    """The model with gradients that are means over the ranks.

    A convolution with one channel in or out gives the gradient of its weights with other strides than theirs, though in
    the same order; DistributedDataParallel warns of that, so gradients take the strides of their parameters first.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(lambda gradient: gradient.reshape(-1).view(gradient.shape))
    # a static graph, for some models have parameters that none of the losses asks for
    return DistributedDataParallel(model, gradient_as_bucket_view=True, static_graph=True)


def running_statistics(model: nn.Module) -> list[Tensor]:
    """What the forward pass changes by itself: means and variances of BatchNorm, in models that have it."""
    parts = (part for part in model.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d))
    return [statistic for part in parts for statistic in part.buffers(recurse=False)]


def is_finite(model: nn.Module) -> bool:
    """Whether all that it has learned are numbers: an update can overflow though its gradient was finite."""
    return all(bool(tensor.isfinite().all()) for tensor in (*model.parameters(), *running_statistics(model)))


def check_batch_norm(model: HQClip, ranks: Ranks) -> None:
    """Raises `ConfigError` for a model that would learn something else on many ranks than on one."""
    if ranks.world_size > 1 and any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in model.modules()):
        raise ConfigError(batch_norm_refusal(model.name, ranks.world_size))


def adamw(model: HQClip, config: TrainConfig) -> torch.optim.AdamW:
    """The optimizer; weight decay for matrices only, as open_clip has it. Each step sets its own learning rate."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    not_decayed = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": not_decayed, "weight_decay": 0.0},
        {"params": decayed, "weight_decay": config.weight_decay},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, config.beta2), eps=1e-6, fused=True)


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to 0, as open_clip has it; a warm-up longer than half the run is cut to that."""
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
