"""A data set version and a budget in, a CLIP out: the training loop, top to bottom."""

from __future__ import annotations

import json
import math
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hqclip.clip import CONFIG, WEIGHTS, model_digest
from hqclip.config import TrainConfig
from hqclip.data.dataset import read_dataset
from hqclip.data.loader import TextPolicy, TrainingSet
from hqclip.errors import ConfigError, ConflictError, DataError, TerminatedError
from hqclip.progress import Progress
from hqclip.records import canonical_json
from hqclip.store import Store, open_store
from hqclip.termination import Termination
from hqclip.train.batches import Batch, Batches
from hqclip.train.card import model_card
from hqclip.train.checkpoint import load_checkpoint, save_checkpoint
from hqclip.train.journal import Journal
from hqclip.train.losses import contrastive, hard_negative_identification, short_tag_classification
from hqclip.train.model import HQClip

MAX_LOGIT_SCALE = math.log(100)  # Radford et al., 2021


def run(config: TrainConfig) -> dict[str, Any]:
    """Train until the budget is spent and export the model; a run that is done is not done again."""
    store = open_store(config.store)
    folder = f"runs/{config.run}"
    settings = _settings(store, f"{folder}/config.json", config)
    if store.exists(f"{folder}/result.json"):
        return {**json.loads(store.read(f"{folder}/result.json")), "already_done": True}
    if config.threads:
        torch.set_num_threads(config.threads)
    version, shards, vocabulary = read_dataset(store, config.dataset)
    data = TrainingSet(store, shards, TextPolicy(config.generated_share, config.max_sentences, config.seed))
    if config.batch_size > data.num_samples:
        raise DataError(f"batch_size {config.batch_size} is more than the {data.num_samples} usable samples; give less")
    torch.manual_seed(config.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = HQClip(config.model, [count / data.num_samples for count in vocabulary.values()]).to(device)
    store.write(f"{folder}/config.json", settings)  # from here on the name is taken
    steps = max(1, config.samples_seen // config.batch_size)
    start = time.monotonic()
    with Journal(store, config.run) as journal:
        _train(store, config, model, Batches(data, model, list(vocabulary), config), steps, journal)
        losses = journal.last
    result = {
        "model": f"{folder}/model",
        "run": folder,
        "model_digest": _export(
            store, f"{folder}/model", model, list(vocabulary), model_card(config, version, steps, losses)
        ),
        "steps": steps,
        "samples_seen": steps * config.batch_size,
        "usable_samples": data.num_samples,
        "losses": losses,
    }
    store.write(f"{folder}/result.json", canonical_json(result))
    return {**result, "already_done": False, "seconds": time.monotonic() - start}


def _settings(store: Store, key: str, config: TrainConfig) -> bytes:
    """What the name of a run stands for. Raises `ConfigError` for a bad name, `ConflictError` for one that is taken."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", config.run):
        raise ConfigError(f"run {config.run!r}: give 1 to 63 of a-z, 0-9 and dashes")
    settings = {name: value for name, value in config.to_mapping().items() if name not in ("store", "threads")}
    taken = json.loads(store.read(key)) if store.exists(key) else settings
    differing = sorted(name for name in settings if taken.get(name) != settings[name])
    if differing:
        raise ConflictError(
            f"run {config.run!r} exists with other settings ({', '.join(differing)}); give another --run"
        )
    return canonical_json(settings)


def _train(store: Store, config: TrainConfig, model: HQClip, batches: Batches, steps: int, journal: Journal) -> None:
    optimizer = torch.optim.AdamW(
        _parameter_groups(model, config), lr=0.0, betas=(0.9, config.beta2), eps=1e-6, fused=True
    )
    first = load_checkpoint(store, config.run, model, optimizer)
    journal.resume(first)
    if first:
        print(f"hqclip train: {config.run} continues at step {first} of {steps}", file=sys.stderr, flush=True)
    model.train()
    with Termination() as termination, Progress(f"train {config.run}", steps - first, "steps") as progress:
        for step, batch in enumerate(batches.ahead(first, steps), start=first):
            rate = learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses = training_step(model, optimizer, batch.to(model.clip.logit_scale.device), config, step / steps)
            progress.advance()
            journal.add(step, {**losses, "learning_rate": rate})
            done = step + 1
            if (done % config.log_every == 0) or done == steps:
                journal.flush()
            if done % config.checkpoint_every == 0 or done == steps or termination.asked:
                journal.upload()
                save_checkpoint(store, config.run, done, model, optimizer)
            if termination.asked and done < steps:
                raise TerminatedError(
                    f"stopped at step {done} of {steps} with a checkpoint; the same command continues"
                )


def training_step(
    model: HQClip, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig, done: float
) -> dict[str, float]:
    """Forward, backward, update; the losses. `done` is the share of the budget spent. Raises `DataError` on NaN."""
    with torch.autocast(batch.text_BL.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        out = model(batch.pixels_B3HW, batch.text_BL, batch.negative_PL)
    num_negatives = len(out.negative_PD)
    contrast = contrastive(out.image_BD.float(), out.text_BD.float(), out.scale)
    negatives, negative_accuracy = hard_negative_identification(
        out.image_BD[:num_negatives].float(), out.text_BD[:num_negatives].float(), out.negative_PD.float(), out.scale
    )
    tags = short_tag_classification(out.tag_logits_BT.float(), batch.target_BT, batch.weight_BT)
    ramp = min(1.0, done / config.negative_ramp) if config.negative_ramp else 1.0
    loss = contrast + config.negative_weight * ramp * negatives + config.tag_weight * tags
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip or math.inf)
    if not torch.isfinite(norm):
        raise DataError(f"the gradient is not finite (loss {loss.item()}); lower learning_rate or set precision fp32")
    optimizer.step()
    with torch.no_grad():
        model.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return {
        "loss": loss.item(),
        "contrastive": contrast.item(),
        "negatives": negatives.item(),
        "tags": tags.item(),
        "negative_accuracy": negative_accuracy.item(),
        "gradient_norm": norm.item(),
        "logit_scale": out.scale.item(),
    }


def learning_rate(step: int, steps: int, config: TrainConfig) -> float:
    """Linear warm-up, then a cosine to 0, as open_clip has it; a warm-up longer than half the run is cut to that."""
    warmup = min(config.warmup, steps // 2)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _parameter_groups(model: HQClip, config: TrainConfig) -> list[dict[str, Any]]:
    """Weight decay for matrices only, as open_clip does."""
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2]
    free = [p for p in model.parameters() if p.requires_grad and p.ndim < 2]
    return [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": config.weight_decay}]


def _export(store: Store, key: str, model: HQClip, tags: list[str], card: str) -> str:
    """Write the model folder, weights before config; the model's digest."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model.export(folder)
        (folder / "tags.json").write_text(json.dumps(tags, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(card)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG):
            store.write(f"{key}/{path.name}", path)
        return model_digest((folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes())
