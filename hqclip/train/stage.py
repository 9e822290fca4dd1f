"""A data set version and a budget in, a CLIP out: the training loop, top to bottom.

Under torchrun every rank runs it; rank 0 alone writes, and what goes wrong on one rank is raised on all.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hqclip import log
from hqclip.config import TrainConfig
from hqclip.data.dataset import read_dataset
from hqclip.data.loader import TrainingSet
from hqclip.data.text_choice import TextPolicy
from hqclip.errors import ConfigError, ConflictError, DataError, TerminatedError
from hqclip.exported import CONFIG, WEIGHTS, model_digest
from hqclip.progress import Progress
from hqclip.records import DatasetVersion, canonical_json
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json
from hqclip.store.leftovers import scratch_folder
from hqclip.termination import Termination
from hqclip.train.batches import Batches
from hqclip.train.card import model_card
from hqclip.train.checkpoint import load_checkpoint, load_step, save_checkpoint
from hqclip.train.distributed import Ranks, process_group, world_size
from hqclip.train.metrics import MetricsLog
from hqclip.train.model import HQClip
from hqclip.train.step import Step, adamw, check_batch_norm, learning_rate

_TRAINED_ANEW = "bring it back, or give another --run, which is trained anew"


@dataclass(frozen=True)
class _Work:
    """What every rank needs to train."""

    store: Store
    config: TrainConfig
    ranks: Ranks
    version: DatasetVersion
    data: TrainingSet
    vocabulary: dict[str, int]
    model: HQClip

    @property
    def folder(self) -> str:
        return f"runs/{self.config.run}"

    @property
    def steps(self) -> int:
        return max(1, self.config.samples_seen // self.config.batch_size)


def run(config: TrainConfig) -> dict[str, Any]:
    """Train until the budget is spent and export the model; a run that is done is not done again.

    The result, and the kind of error if there is one, are the same on every rank.
    """
    start = time.monotonic()
    config.check_ranks(world_size())
    with process_group() as ranks:
        store = ranks.on_all_ranks(lambda: open_store(config.store))
        done = ranks.on_rank_zero(lambda: _result_so_far(store, config))
        if done:
            return {**done, "already_done": True}
        if config.threads:
            torch.set_num_threads(config.threads)
        work = ranks.on_all_ranks(lambda: _prepare(store, config, ranks))
        ranks.on_rank_zero(lambda: _reserve_name(store, config))
        with ranks.on_all_ranks(lambda: MetricsLog(store, config.run)) as metrics:
            _train(work, metrics)
            result = ranks.on_rank_zero(lambda: _finish(work, metrics.last))
        return {**result, "already_done": False, "seconds": ranks.on_rank_zero(lambda: time.monotonic() - start)}


def _result_so_far(store: Store, config: TrainConfig) -> dict[str, Any] | None:
    """The result of a run that is done. Raises `ConflictError` if its name stands for other settings."""
    _settings(store, config)
    key = f"runs/{config.run}/result.json"
    return read_json(store, key, _TRAINED_ANEW) if store.exists(key) else None


def _reserve_name(store: Store, config: TrainConfig) -> None:
    """From here on the name stands for these settings."""
    store.write(f"runs/{config.run}/config.json", _settings(store, config))


def _settings(store: Store, config: TrainConfig) -> bytes:
    """What the name of a run stands for. Raises `ConfigError` for a bad name, `ConflictError` for one that is taken."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", config.run):
        raise ConfigError(f"run {config.run!r}: give 1 to 63 of a-z, 0-9, dots and dashes")
    key = f"runs/{config.run}/config.json"
    settings = config.lasting()
    taken = read_json(store, key, _TRAINED_ANEW) if store.exists(key) else settings
    differing = sorted(name for name in settings if taken.get(name) != settings[name])
    if differing:
        raise ConflictError(
            f"run {config.run!r} exists with other settings ({', '.join(differing)}); give another --run"
        )
    return canonical_json(settings)


def _prepare(store: Store, config: TrainConfig, ranks: Ranks) -> _Work:
    """Data and an untrained model, the same on every rank."""
    version, shards, vocabulary = read_dataset(store, config.dataset)
    data = TrainingSet(store, shards, TextPolicy(config.generated_share, config.max_sentences, config.seed))
    if config.batch_size > data.num_samples:
        raise DataError(f"batch_size {config.batch_size} is more than the {data.num_samples} usable samples; give less")
    torch.manual_seed(config.seed)
    model = HQClip(config.model, [count / data.num_samples for count in vocabulary.values()]).to(ranks.device)
    check_batch_norm(model, ranks)
    return _Work(store, config, ranks, version, data, vocabulary, model)


def _train(work: _Work, metrics: MetricsLog) -> None:
    config, ranks, steps = work.config, work.ranks, work.steps
    optimizer = adamw(work.model, config)
    first = _resume(work, optimizer, metrics)
    work.model.train()
    train_step = Step(work.model, optimizer, config, ranks)
    batches = Batches(work.data, work.model, list(work.vocabulary), config, ranks)

    def save(done: int) -> None:
        metrics.upload()
        save_checkpoint(work.store, config.run, done, work.model, optimizer)

    with (
        Termination() as termination,
        Progress(f"train {config.run}", steps - first, "steps") if ranks.rank == 0 else nullcontext() as progress,
        closing(batches.prefetch(first, steps)) as prefetched,
    ):
        for step, batch in enumerate(prefetched, start=first):
            rate = learning_rate(step, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            losses, stop = train_step(batch, step / steps, termination.asked)
            if progress:
                progress.advance()
            metrics.add(step, {**losses, "learning_rate": rate})
            done = step + 1
            if (done % config.log_every == 0) or done == steps:
                metrics.flush()
            if done % config.checkpoint_every == 0 or done == steps or stop:
                ranks.on_rank_zero(partial(save, done))
            if stop and done < steps:
                raise TerminatedError(
                    f"stopped at step {done} of {steps} with a checkpoint; the same command continues"
                )


def _resume(work: _Work, optimizer: torch.optim.Optimizer, metrics: MetricsLog) -> int:
    """Take up the newest checkpoint that verifies on rank 0; the steps that were done."""
    store, name, ranks, model = work.store, work.config.run, work.ranks, work.model
    first = ranks.on_rank_zero(lambda: load_checkpoint(store, name, model, optimizer))
    if first and ranks.rank == 0:
        log.info("train", f"{name} continues at step {first} of {work.steps}")

    def take_up() -> None:
        if first and ranks.rank:
            load_step(store, name, first, model, optimizer)
        metrics.resume(first)

    ranks.on_all_ranks(take_up)
    if ranks.rank:  # what is random in the towers must not be the same for every rank's samples
        torch.manual_seed(hash((work.config.seed, first, ranks.rank)))
    return first


def _finish(work: _Work, losses: dict[str, float]) -> dict[str, Any]:
    """Export the model and write what there is to say about the run."""
    config, steps = work.config, work.steps
    card = model_card(config, work.version, steps, losses)
    result = {
        "model": f"{work.folder}/model",
        "run": work.folder,
        "model_digest": _export(work.store, f"{work.folder}/model", work.model, list(work.vocabulary), card),
        "steps": steps,
        "samples_seen": steps * config.batch_size,
        "usable_samples": work.data.num_samples,
        "losses": losses,
    }
    work.store.write(f"{work.folder}/result.json", canonical_json(result))
    return result


def _export(store: Store, key: str, model: HQClip, tags: list[str], card: str) -> str:
    """Write the model folder, weights before config; the model's digest."""
    with scratch_folder() as folder:
        model.export(folder)
        (folder / "tags.json").write_text(json.dumps(tags, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(card)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG):
            store.write(f"{key}/{path.name}", path)
        with (folder / CONFIG).open("rb") as config, (folder / WEIGHTS).open("rb") as weights:
            return model_digest(config, weights)
