"""A data set version and a budget in, a CLIP out: the training loop, top to bottom.

Under torchrun every rank runs it; rank 0 alone writes, and what goes wrong on one rank is raised on all.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import closing, nullcontext
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import torch

from hqclip import log
from hqclip.config import TrainConfig
from hqclip.data.dataset import read_dataset
from hqclip.data.loader import TrainingSet
from hqclip.data.text_choice import TextPolicy
from hqclip.errors import ConfigError, ConflictError, DataError, TerminatedError
from hqclip.exported import CONFIG, TAGS, WEIGHTS, model_digest, tokenizer_digest, tokenizer_files
from hqclip.foreign import translated
from hqclip.gpu import meter_of
from hqclip.progress import Progress
from hqclip.provenance import made_by
from hqclip.ranks import Ranks, process_group, world_size
from hqclip.records import DatasetVersion, canonical_json
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json_if_there
from hqclip.store.leftovers import scratch_folder
from hqclip.termination import Termination
from hqclip.train.batches import Batch, Batches
from hqclip.train.card import model_card
from hqclip.train.checkpoint import load_checkpoint, load_step
from hqclip.train.metrics import MetricsLog
from hqclip.train.model import HQClip
from hqclip.train.saving import PATIENCE_S, Saving
from hqclip.train.skips import Skips
from hqclip.train.step import Step, adamw, check_batch_norm, is_finite, learning_rate
from hqclip.train.work import Work, total_work

MORE_MEMORY = "give a smaller batch_size, more ranks to share it, or precision bf16"

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
    where = f"run {config.run}, {config.batch_size} samples a step on {world_size()} rank(s)"
    # outside of the process group: what a library raises on one rank, the others do not know of
    with translated(where, memory=MORE_MEMORY), process_group() as ranks:
        store = ranks.on_all_ranks(lambda: open_store(config.store))
        done = ranks.on_rank_zero(lambda: _result_so_far(store, config))
        if done:
            return {**done, "already_done": True}
        if config.threads:
            torch.set_num_threads(config.threads)
        work = ranks.on_all_ranks(lambda: _prepare(store, config, ranks))
        ranks.on_rank_zero(lambda: _reserve_name(store, config))
        with ranks.on_all_ranks(lambda: MetricsLog(store, config.run, _timed(store, config, ranks, start))) as metrics:
            _train(work, metrics)
            result = ranks.on_rank_zero(lambda: _finish(work, metrics))
        took = ranks.on_rank_zero(lambda: _took(work, time.monotonic() - start))
        return {**result, "already_done": False, **took}


def _timed(store: Store, config: TrainConfig, ranks: Ranks, start: float) -> Work:
    """What this process does for the run; rank 0 watches the GPUs of its machine."""
    if ranks.device.type != "cuda":
        return Work(store, config.run, start, config.batch_size)
    meter = meter_of(ranks.device, ranks.num_here) if ranks.rank == 0 else None
    return Work(store, config.run, start, config.batch_size, ranks.world_size, meter)


def _took(work: _Work, seconds: float) -> dict[str, Any]:
    """The time of this call, and all work that was done for the run."""
    samples = work.steps * work.config.batch_size
    return {"seconds": seconds, "work": total_work(work.store, work.config.run, samples)}


def _result_so_far(store: Store, config: TrainConfig) -> dict[str, Any] | None:
    """The result of a run that is done. Raises `ConflictError` if its name stands for other settings."""
    _settings(store, config)
    return read_json_if_there(store, f"runs/{config.run}/result.json", _TRAINED_ANEW)


def _reserve_name(store: Store, config: TrainConfig) -> None:
    """From here on the name stands for these settings."""
    settings = _settings(store, config)
    if not store.exists(f"runs/{config.run}/config.json"):
        store.write(f"runs/{config.run}/config.json", canonical_json(settings))


def _settings(store: Store, config: TrainConfig) -> dict[str, Any]:
    """What the name of a run stands for. Raises `ConfigError` for a bad name, `ConflictError` for one that is taken.

    A run of a version that did not know a setting did what is now its default.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", config.run):
        raise ConfigError(f"run {config.run!r}: give 1 to 63 of a-z, 0-9, dots and dashes")
    key = f"runs/{config.run}/config.json"
    settings = config.lasting()
    defaults = {field.name: field.default for field in fields(config)}
    taken = {**defaults, **(read_json_if_there(store, key, _TRAINED_ANEW) or settings)}
    differing = sorted(name for name in settings if taken[name] != settings[name])
    if differing:
        raise ConflictError(
            f"run {config.run!r} exists with other settings ({', '.join(differing)}); give another --run"
        )
    return settings


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
    config, ranks = work.config, work.ranks
    optimizer = adamw(work.model, config)
    saving = Saving(work.store, config.run, work.model, optimizer, metrics)
    first = _resume(work, optimizer, metrics, saving)
    work.model.train()
    skips = Skips(config.max_skipped_steps, work.steps, metrics.skipped_steps)
    loop = _Loop(
        work,
        Step(work.model, optimizer, config, ranks),
        Batches(work.data, work.model, list(work.vocabulary), config, ranks),
        metrics,
        saving,
        skips,
    )
    with (
        Termination() as termination,
        Progress(f"train {config.run}", work.steps, "steps", done=first)
        if ranks.rank == 0
        else nullcontext() as progress,
    ):
        try:
            metrics.work.begins(first)
            while not loop.run(first, termination, progress):
                first = _go_back(work, optimizer, metrics, saving, skips)
                metrics.work.begins(first)
        finally:
            saving.settled(PATIENCE_S)


@dataclass(frozen=True)
class _Loop:
    """The steps of a run, one after the other, and what is kept of them."""

    work: _Work
    step: Step
    batches: Batches
    metrics: MetricsLog
    saving: Saving
    skips: Skips

    def run(self, first: int, termination: Termination, progress: Progress | None) -> bool:
        """From step `first` to the last; False if too many were skipped. Raises `TerminatedError` after SIGTERM."""
        config, steps = self.work.config, self.work.steps
        due = False
        with closing(self.batches.prefetch(first, steps)) as prefetched:
            for number, batch in enumerate(self.metrics.work.waiting_for(prefetched), start=first):
                rate = self.step.set_learning_rate(learning_rate(number, steps, config))
                losses, stop, skipped = self.step(batch, number / steps, termination.asked)
                if progress:
                    progress.advance()
                if not self._note(number, batch, {**losses, "learning_rate": rate}, skipped):
                    return False
                done = number + 1
                if (done % config.log_every == 0) or done == steps:
                    self.metrics.flush()
                due = due or done % config.checkpoint_every == 0
                # a state between skipped steps is no place to go back to: it is kept after the next good one
                if (due and not skipped) or done == steps or (stop and not skipped):
                    if not is_finite(self.work.model):
                        return False
                    due = False
                    save = self.saving.finish if stop or done == steps else self.saving.begin
                    self.work.ranks.on_rank_zero(partial(save, done))
                if stop and done < steps:
                    kept = "among skipped steps" if skipped else "with a checkpoint"
                    raise TerminatedError(f"stopped at step {done} of {steps} {kept}; the same command continues")
        return True

    def _note(self, number: int, batch: Batch, values: dict[str, float], skipped: bool) -> bool:
        """Keep what a step measured, or that it was skipped; False if that is once too often."""
        if not skipped:
            self.skips.good()
            self.metrics.add(number, values)
            return True
        uids = [uid for share in self.work.ranks.group.gather(list(batch.uids)) for uid in share]
        self.metrics.skip(number)
        if self.work.ranks.rank == 0:
            log.warning(
                "train",
                f"{self.work.config.run}: step {number} is skipped: loss {values['loss']}, gradient "
                f"{values['gradient_norm']}; the first of its {len(uids)} samples is {uids[0]}",
            )
        return not self.skips.skipped(number, uids)


def _go_back(work: _Work, optimizer: torch.optim.Optimizer, metrics: MetricsLog, saving: Saving, skips: Skips) -> int:
    """Take up the last checkpoint, once; the steps that were done. Raises `DataError` on all ranks after that."""
    ranks = work.ranks
    ranks.on_rank_zero(lambda: saving.settled() and None)
    first = 0 if skips.gone_back_to is not None else _resume(work, optimizer, metrics, saving)
    if not first:
        raise DataError(ranks.on_rank_zero(lambda: skips.write(work.store, work.folder)))
    skips.go_back(first, metrics.skipped_steps)
    return first


def _resume(work: _Work, optimizer: torch.optim.Optimizer, metrics: MetricsLog, saving: Saving) -> int:
    """Take up the newest checkpoint that verifies on rank 0; the steps that were done."""
    store, name, ranks, model = work.store, work.config.run, work.ranks, work.model
    first = ranks.on_rank_zero(lambda: load_checkpoint(store, name, model, optimizer))
    if first and ranks.rank == 0:
        log.info("train", f"{name} continues at step {first} of {work.steps}")

    def take_up() -> None:
        if first and ranks.rank:
            load_step(store, name, first, model, optimizer)
        metrics.resume(first)
        saving.resume(first)

    ranks.on_all_ranks(take_up)
    if ranks.rank:  # what is random in the towers must not be the same for every rank's samples
        torch.manual_seed(hash((work.config.seed, first, ranks.rank)))
    return first


def _finish(work: _Work, metrics: MetricsLog) -> dict[str, Any]:
    """Export the model and write what there is to say about the run, unless another process has done so meanwhile."""
    config, steps, losses = work.config, work.steps, metrics.last
    if done := _result_so_far(work.store, config):
        return done
    card = model_card(config, work.version, steps, losses)
    result = {
        "model": f"{work.folder}/model",
        "run": work.folder,
        **_export(work.store, f"{work.folder}/model", work.model, list(work.vocabulary), card),
        "steps": steps,
        "samples_seen": steps * config.batch_size,
        "usable_samples": work.data.num_samples,
        "losses": losses,
        **({"skipped_steps": metrics.skipped_steps} if metrics.skipped_steps else {}),
        "provenance": made_by("train", config.to_mapping(), [config.dataset], ranks=world_size()),
    }
    work.store.write(f"{work.folder}/result.json", canonical_json(result))
    return result


def _export(store: Store, key: str, model: HQClip, tags: list[str], card: str) -> dict[str, str]:
    """Write the model folder, weights before config, over what a try left that was cut short; what it is known by."""
    with scratch_folder() as folder:
        model.export(folder)
        (folder / TAGS).write_text(json.dumps(tags, ensure_ascii=False) + "\n")
        (folder / "README.md").write_text(card)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG):
            store.write(f"{key}/{path.name}", path, create_only=False)
        with (folder / CONFIG).open("rb") as config, (folder / WEIGHTS).open("rb") as weights:
            digests = {"model_digest": model_digest(config, weights)}
    beside = tokenizer_digest(tokenizer_files(store, key), lambda name: store.open(f"{key}/{name}"))
    return {**digests, "tokenizer_digest": beside} if beside else digests
