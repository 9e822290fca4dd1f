"""Images of a pool and a teacher in, the teacher's answers on record out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip.annotate.annotator import Annotator, weights_of
from hqclip.annotate.engines.registry import make_engine
from hqclip.annotate.prompt import load_prompt
from hqclip.annotate.supervisor import Limits
from hqclip.config import LOCAL_ENGINES, AnnotateConfig
from hqclip.distill.config import DistillConfig
from hqclip.distill.pool_images import ImageRef, PoolImages
from hqclip.distill.query import BatchQuery, Budget, RequestLimits
from hqclip.distill.response_log import ResponseLog
from hqclip.distill.training_set import Example
from hqclip.errors import DataError
from hqclip.records import Status, canonical_json, digest_of
from hqclip.store import Store

COMMON = (
    *("store", "pool", "prompt", "max_tags", "max_sentences", "max_new_tokens", "max_alt_tokens", "image_tokens"),
    *("timeout_s", "ready_s", "threads"),
)


@dataclass(frozen=True)
class Collected:
    """Usable examples to learn from and to judge on, what became of every question, and what the answers cost.

    `teacher_weights` are revision and digest of a teacher that was run here; empty for a server's.
    """

    learn: list[Example]
    judge: list[Example]
    statuses: dict[str, int]
    usd: float
    teacher_weights: dict[str, str]


def collect(
    config: DistillConfig, store: Store, images: PoolImages, refs: Sequence[ImageRef], folder: str
) -> Collected:
    """Ask the teacher about `refs`, the first `held_out` of which are to judge on; its answers stay in `folder`.

    Raises what `BatchQuery.run` raises, and `DataError` if too many answers cannot be used.
    """
    settings = teacher_settings(config)
    prompt = load_prompt(config.prompt, config.max_tags, config.max_sentences)
    weights = weights_of(config.teacher) if config.teacher_engine in LOCAL_ENGINES else None
    model = weights.folder if weights else config.teacher
    budget = Budget(config.budget_usd, config.usd_per_million_input, config.usd_per_million_output)
    limits = RequestLimits(config.in_flight, patience_of(config), config.max_new_tokens, budget)
    log = ResponseLog(store, f"{folder}/teacher")
    query = BatchQuery(make_engine(settings, prompt, model), log, images, limits, grammar=True)
    asyncio.run(query.run("collect", refs))
    examples = [Example(ref, log.responses[ref.sha256]) for ref in refs]
    statuses = Counter(str(example.response.status) for example in examples)
    _refuse_too_many_faults(statuses, config.max_fault_rate, log.folder)
    judge, learn = (
        [example for example in part if example.response.annotation]
        for part in (examples[: config.held_out], examples[config.held_out :])
    )
    if not judge or not learn:
        raise DataError(f"{log.folder}: {len(learn)} usable answers to learn from, {len(judge)} to judge on; give more")
    responses = [example.response for example in examples]
    usd = sum(budget.cost(response.prompt_tokens, response.output_tokens) for response in responses)
    teacher = {"revision": weights.revision, "digest": weights.digest} if weights else {}
    return Collected(learn, judge, dict(statuses), usd, teacher)


def open_folder(config: DistillConfig, store: Store, pupil: Annotator) -> str:
    """The folder of what this teacher says of this pool, seen as this pupil sees it; spelt out in `teacher.json`.

    How many images are asked about does not name another folder: asking about more of them asks nothing twice.
    """
    about = {
        "pool": config.pool,
        "teacher": config.teacher,
        "engine": config.teacher_engine,
        "prompt": pupil.prompt.name,
        "prompt_digest": pupil.prompt.digest,
        "family": pupil.family.name,
        "image_tokens": pupil.image_tokens,
        **{name: getattr(config, name) for name in ("max_new_tokens", "max_alt_tokens", "seed")},
    }
    folder = f"teachings/{digest_of(about)}"
    store.write(f"{folder}/teacher.json", canonical_json({**about, "instruction": pupil.prompt.system}))
    return folder


def teacher_settings(config: DistillConfig) -> AnnotateConfig:
    """The teacher, as its engine takes it."""
    common = {name: getattr(config, name) for name in COMMON}
    given: dict[str, Any] = {"model": config.teacher, "engine": config.teacher_engine}
    given |= {"server": config.server, "plain_http": config.plain_http, "recording": config.recording}
    return AnnotateConfig(**common, **given)


def pupil_settings(config: DistillConfig, model: Path | str) -> AnnotateConfig:
    """The model that is taught, before or after, as `hqclip annotate` would run it without grammar."""
    common = {name: getattr(config, name) for name in COMMON}
    return AnnotateConfig(**common, model=str(model), engine=config.engine, grammar="off")


def patience_of(config: DistillConfig) -> Limits:
    """With teacher and pupil."""
    return Limits(config.timeout_s, config.ready_s, config.busy_s)


def _refuse_too_many_faults(statuses: Counter[str], limit: float, folder: str) -> None:
    total = sum(statuses.values())
    faults = total - statuses[Status.OK]
    if faults > limit * total:
        reasons = ", ".join(f"{name} {number}" for name, number in statuses.most_common() if name != Status.OK)
        raise DataError(
            f"{folder}: {faults} of {total} answers of the teacher cannot be used ({reasons}), more than {limit:.1%}; "
            "look at the prompt and the teacher, or allow more with --max-fault-rate"
        )
