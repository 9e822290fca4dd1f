"""A pool, a teacher and an LVLM in, a taught LVLM and whether it is accepted out. Each step skips what is there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from hqclip import __version__
from hqclip.annotate.annotator import Annotator
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.preparation import Preparation
from hqclip.distill.acceptance import Agreement, compare, decide
from hqclip.distill.collect import Collected, collect, open_folder, patience_of, pupil_settings, teacher_settings
from hqclip.distill.config import DistillConfig
from hqclip.distill.pool_images import PoolImages
from hqclip.distill.query import BatchQuery, RequestLimits
from hqclip.distill.response_log import Response, ResponseLog
from hqclip.distill.sampling import sample
from hqclip.distill.training_set import TrainingSet
from hqclip.errors import ConfigError, ConflictError, MissingSoftwareError
from hqclip.models.contents import folder_digest
from hqclip.records import Pool, canonical_json, digest_of
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json
from hqclip.store.leftovers import scratch_folder
from hqclip.store.local import LocalStore

TRAINING = ("samples", "held_out", "rank", "alpha", "learning_rate", "epochs", "batch_size", "seed")


def run(config: DistillConfig) -> dict[str, Any]:
    """Collect what is missing of the teacher's answers, fine-tune, judge. A model that is refused is kept all the same.

    Raises what `collect` and `fine_tune` raise, and `MissingSoftwareError` before anything is paid for.
    """
    start = time.monotonic()
    teacher_settings(config)  # a teacher that lacks what it needs is refused before any work
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    pupil = Annotator.of(pupil_settings(config, config.model))
    teaching = open_folder(config, store, pupil)
    about = _about(config, pupil, teaching)
    key = f"lvlms/{digest_of(about)}"
    folder = _model_folder(config, store, key)
    training = _trained(store, key, folder)
    if training is None:
        _check_software()
    images = PoolImages(store, Preparation.of(pupil, config.max_alt_tokens))
    refs = sample(store, pool, config.seed, config.held_out + config.samples)
    collected = collect(config, store, images, refs, teaching)
    training = training or _train(config, store, key, TrainingSet(pupil, images, collected.learn), folder)
    acceptance = _acceptance(config, store, teaching, TrainingSet(pupil, images, collected.judge), folder)
    gate = {"engine": config.engine, "min_valid": config.min_valid, "margin": config.margin}
    about["base_revision"] = pupil.lvlm["revision"]
    card = {**about, **acceptance, **training, **_counts(collected), "gate": gate, "code_version": __version__}
    store.write(f"{key}/lesson.json", canonical_json(card), create_only=False)  # the gate may be set anew
    return {"model": str(folder), "lesson": f"{key}/lesson.json", **card, "seconds": time.monotonic() - start}


def _check_software() -> None:
    try:
        import hqclip.distill.lora  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingSoftwareError(f"{error}: to teach an LVLM, install hqclip with its extra `distill`") from error


def _about(config: DistillConfig, pupil: Annotator, teaching: str) -> dict[str, Any]:
    """Everything that decides the taught model."""
    return {
        "teaching": teaching,
        "teacher": config.teacher,
        "pool": config.pool,
        "prompt": pupil.prompt.name,
        "prompt_digest": pupil.prompt.digest,
        "base_model": config.model,
        "base_digest": pupil.about["model_digest"],
        "settings": {name: getattr(config, name) for name in TRAINING},
    }


def _model_folder(config: DistillConfig, store: Store, key: str) -> Path:
    if config.out:
        return Path(config.out).absolute()
    if isinstance(store, LocalStore):
        return store.root / key / "model"
    raise ConfigError(f"out is empty and {store.uri} is no folder: give --out, a folder for the taught model")


def _trained(store: Store, key: str, folder: Path) -> dict[str, Any] | None:
    """What is on record of the model in `folder`; None if it has yet to be made.

    Raises `ConflictError` if something else is there.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    record = f"{key}/trained.json"
    trained = read_json(store, record, f"delete it and {folder}, and run again") if store.exists(record) else {}
    if trained.get("model_digest") != folder_digest(folder):
        raise ConflictError(
            f"{folder} is not empty, and is not what this lesson makes: delete it, or give another --out"
        )
    return trained


def _train(config: DistillConfig, store: Store, key: str, training_set: TrainingSet, folder: Path) -> dict[str, Any]:
    """Fine-tune into `folder`, which appears whole or not at all."""
    from hqclip.distill.lora import fine_tune

    assert training_set.pupil.folder is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent) as scratch:
        made = scratch / "model"
        figures = fine_tune(config, training_set, made)
        trained = {"model_digest": folder_digest(made), "training": figures}
        store.write(f"{key}/trained.json", canonical_json(trained), create_only=False)  # it vouches for the folder
        made.rename(folder)  # over an empty one if there is one
    return trained


def _acceptance(
    config: DistillConfig, store: Store, teaching: str, held_out: TrainingSet, folder: Path
) -> dict[str, Any]:
    """Both models answer the images of `held_out`, and are compared with the teacher."""
    taught = Annotator.of(pupil_settings(config, folder))
    teacher = [example.response for example in held_out.examples]
    agreements: dict[str, Agreement] = {}
    for name, model in (("base", held_out.pupil), ("taught", taught)):
        log = ResponseLog(store, f"{teaching}/pupils/{model.digest}")
        agreements[name] = compare(teacher, _responses(config, log, held_out, model))
    accepted, reason = decide(agreements["base"], agreements["taught"], config.min_valid, config.margin)
    return {"accepted": accepted, "reason": reason, **{name: a.to_mapping() for name, a in agreements.items()}}


def _responses(config: DistillConfig, log: ResponseLog, held_out: TrainingSet, model: Annotator) -> list[Response]:
    assert model.folder is not None
    engine = make_engine(pupil_settings(config, model.folder), model.prompt, model.folder)
    limits = RequestLimits(0, patience_of(config), config.max_new_tokens)
    refs = [example.image for example in held_out.examples]
    asyncio.run(BatchQuery(engine, log, held_out.images, limits, grammar=False).run("judge", refs))
    return [log.responses[ref.sha256] for ref in refs]


def _counts(collected: Collected) -> dict[str, Any]:
    return {
        "learned_from": len(collected.learn),
        "judged_on": len(collected.judge),
        "teacher_statuses": collected.statuses,
        "teacher_usd": collected.usd,
        **({"teacher_weights": collected.teacher_weights} if collected.teacher_weights else {}),
    }
