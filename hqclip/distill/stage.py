"""A pool, a teacher and an LVLM in, the taught LVLM and a verdict out. Each step skips what is there already."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from hqclip import __version__
from hqclip.annotate.annotator import Annotator, folder_digest
from hqclip.annotate.engines.protocol import make_engine
from hqclip.config import DistillConfig
from hqclip.distill.ask import Asking, Manners
from hqclip.distill.collect import Course, Lessons, collect, open_distilling, pupil_settings, teacher_settings
from hqclip.distill.draw import Pictures, draw
from hqclip.distill.gate import Figures, compare, judge
from hqclip.distill.ledger import Ledger, Reply
from hqclip.errors import ConfigError, ConflictError, MissingSoftwareError
from hqclip.records import Pool, canonical_json, digest_of
from hqclip.store import Store, open_store
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
    teaching = open_distilling(config, store, pupil)
    about = _about(config, pupil, teaching)
    lesson = f"lvlms/{digest_of(about)}"
    folder = _model_folder(config, store, lesson)
    training = _trained(store, lesson, folder)
    if training is None:
        _check_software()
    pictures = Pictures.of(store, pupil, config.max_alt_tokens)
    places = draw(store, pool, config.seed, config.held_out + config.samples)
    lessons = collect(config, store, pictures, places, teaching)
    training = training or _train(config, store, lesson, Course(pupil, pictures, lessons.learn), folder)
    verdict = _verdict(config, store, teaching, Course(pupil, pictures, lessons.judge), folder)
    gate = {"engine": config.engine, "min_valid": config.min_valid, "margin": config.margin}
    card = {**about, **verdict, **training, **_counts(lessons), "gate": gate, "code_version": __version__}
    store.write(f"{lesson}/lesson.json", canonical_json(card), create_only=False)  # the gate may be set anew
    return {"model": str(folder), "lesson": f"{lesson}/lesson.json", **card, "seconds": time.monotonic() - start}


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


def _model_folder(config: DistillConfig, store: Store, lesson: str) -> Path:
    if config.out:
        return Path(config.out).absolute()
    if isinstance(store, LocalStore):
        return store.root / lesson / "model"
    raise ConfigError(f"out is empty and {store.uri} is no folder: give --out, a folder for the taught model")


def _trained(store: Store, lesson: str, folder: Path) -> dict[str, Any] | None:
    """What is on record of the model in `folder`; None if it has yet to be made.

    Raises `ConflictError` if something else is there.
    """
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    record = f"{lesson}/trained.json"
    trained: dict[str, Any] = json.loads(store.read(record)) if store.exists(record) else {}
    if trained.get("model_digest") != folder_digest(folder):
        raise ConflictError(
            f"{folder} is not empty, and is not what this lesson makes: delete it, or give another --out"
        )
    return trained


def _train(config: DistillConfig, store: Store, lesson: str, course: Course, folder: Path) -> dict[str, Any]:
    """Fine-tune into `folder`, which appears whole or not at all."""
    from hqclip.distill.lora import fine_tune

    assert course.pupil.folder is not None
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".hqclip-", dir=folder.parent) as scratch:
        made = Path(scratch) / "model"
        figures = fine_tune(config, course, made)
        trained = {"model_digest": folder_digest(made), "training": figures}
        store.write(f"{lesson}/trained.json", canonical_json(trained), create_only=False)  # it vouches for the folder
        made.rename(folder)  # over an empty one if there is one
    return trained


def _verdict(config: DistillConfig, store: Store, teaching: str, course: Course, folder: Path) -> dict[str, Any]:
    """The gate: both models answer the images of `course`, and are compared with the teacher."""
    taught = Annotator.of(pupil_settings(config, folder))
    figures: dict[str, Figures] = {}
    for name, model in (("base", course.pupil), ("taught", taught)):
        replies = _replies(config, Ledger(store, f"{teaching}/pupils/{model.digest}"), course, model)
        figures[name] = compare([lesson.reply for lesson in course.lessons], replies)
    accepted, reason = judge(figures["base"], figures["taught"], config.min_valid, config.margin)
    return {"accepted": accepted, "reason": reason, **{name: f.to_mapping() for name, f in figures.items()}}


def _replies(config: DistillConfig, ledger: Ledger, course: Course, model: Annotator) -> list[Reply]:
    assert model.folder is not None
    engine = make_engine(pupil_settings(config, model.folder), model.prompt, model.folder)
    manners = Manners(0, config.timeout_s, config.busy_s, config.max_new_tokens, grammar=False)
    places = [lesson.place for lesson in course.lessons]
    asyncio.run(Asking(engine, ledger, course.pictures, manners).run("judge", places))
    return [ledger.replies[place.sha256] for place in places]


def _counts(lessons: Lessons) -> dict[str, Any]:
    return {
        "learned_from": len(lessons.learn),
        "judged_on": len(lessons.judge),
        "teacher_statuses": lessons.statuses,
        "teacher_usd": lessons.usd,
    }
