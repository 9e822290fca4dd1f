"""A pool of shards in, one annotation sidecar a shard out: four texts for every image, or the name of the fault."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from hqclip.annotate.answer import read_answer
from hqclip.annotate.engine import Answer, Engine, Request, start_engine
from hqclip.annotate.prompt import Prompt, load_prompt
from hqclip.config import AnnotateConfig
from hqclip.data.images import ImageFault, decode
from hqclip.data.index import ShardImages, read_index
from hqclip.data.sidecar import read_annotations, write_annotations
from hqclip.errors import ConfigError, DataError, UnavailableError
from hqclip.progress import Progress
from hqclip.records import AnnotatedRow, Pool, ShardEntry, Status, canonical_json, digest_of
from hqclip.store import Store, open_store

READER = 1  # raise it when alt-text is cleaned or answers are read differently: that makes another annotator
DEMO_MODEL = Path(__file__).parents[1] / "demo" / "lvlm"


def run(config: AnnotateConfig) -> dict[str, Any]:
    """Annotate every shard of the pool that has no sidecar yet; fail if too many samples have no usable texts."""
    store = open_store(config.store)
    pool = Pool.from_json(store.read(config.pool), config.pool)
    prompt = load_prompt(config.prompt)
    model = model_folder(config.model)
    annotator = describe_annotator(config, prompt, model)
    digest = digest_of(annotator)
    folder = f"annotations/{digest}"
    store.write(f"{folder}/annotator.json", canonical_json(annotator))
    missing = [entry for entry in pool.shards if not store.exists(f"{folder}/{entry.name}.parquet")]
    start = time.monotonic()
    if missing:
        engine = start_engine(config, prompt, str(model))
        with Progress("annotate", sum(entry.rows for entry in missing), "images") as progress:
            for entry in missing:
                rows = annotate_shard(store, entry, engine, config.batch_size, progress)
                write_annotations(store, f"{folder}/{entry.name}.parquet", rows, entry, digest)
    tally, tokens = _count(store, folder, pool)
    _refuse_too_many_faults(tally, config.max_fault_rate, folder)
    return {
        "annotations": folder,
        "annotator": digest,
        "rows": sum(tally.values()),
        "statuses": dict(tally),
        "output_tokens": tokens,
        "num_shards": len(pool.shards),
        "already_done": len(pool.shards) - len(missing),
        "seconds": time.monotonic() - start,
    }


def annotate_shard(
    store: Store, entry: ShardEntry, engine: Engine, batch_size: int, progress: Progress
) -> list[AnnotatedRow]:
    """One row a sample, in the shard's order. Batches are the same whenever a shard is done, so answers are too."""
    index = read_index(store, entry)
    rows: dict[str, AnnotatedRow] = {}
    with ShardImages(store, entry, index) as images:
        requests = _requests(index, images, rows)
        while batch := list(islice(requests, batch_size)):
            for request, answer in zip(batch, engine.answer(batch), strict=True):
                rows[request.uid] = read_row(request.uid, answer)
            progress.advance(len(batch))
    return [rows[uid] for uid in index.uids]


def _requests(index: Any, images: ShardImages, rows: dict[str, AnnotatedRow]) -> Iterator[Request]:
    """A request for every image that can be read; the others get their row at once."""
    for number, (uid, text) in enumerate(zip(index.uids, index.texts, strict=True)):
        try:
            yield Request(uid, decode(images.read(number)), text)
        except ImageFault:
            rows[uid] = AnnotatedRow(uid, Status.UNREADABLE_IMAGE, None)


def read_row(uid: str, answer: Answer) -> AnnotatedRow:
    """The row of one answer: its texts, or what was wrong with it."""
    if answer.error:
        return AnnotatedRow(uid, Status.ENGINE_ERROR, None)
    annotation, status = read_answer(answer.text, answer.finished)
    return AnnotatedRow(uid, status, annotation, answer.prompt_tokens, answer.output_tokens)


def describe_annotator(config: AnnotateConfig, prompt: Prompt, model: Path) -> dict[str, Any]:
    """Everything that decides what the annotator says. Batch size and threads do not."""
    return {
        "model": config.model,
        "model_digest": folder_digest(model),
        "engine": config.engine,
        "prompt": prompt.name,
        "prompt_digest": prompt.digest,
        "max_new_tokens": config.max_new_tokens,
        "reader": READER,
    }


def model_folder(name: str) -> Path:
    """Where the LVLM lies: `demo` is the one of this package, a folder is itself, other names are of the hub."""
    if name == "demo":
        return DEMO_MODEL
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    repository, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(repository, revision=revision or None))
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise ConfigError(f"model {name!r} is neither a folder nor on the hub: {error}") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UnavailableError(f"model {name!r} is not a folder, and the hub does not give it: {error}") from error


def folder_digest(folder: Path) -> str:
    """SHA-256 over the files that make the model: weights, configs, tokenizer; not its README."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".txt", ".model"):
            total.update(path.name.encode())
            with path.open("rb") as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _count(store: Store, folder: str, pool: Pool) -> tuple[Counter[str], int]:
    """How often each status occurs, and the tokens written, over all sidecars."""
    tally: Counter[str] = Counter()
    tokens = 0
    for entry in pool.shards:
        for row in read_annotations(store, f"{folder}/{entry.name}.parquet", entry):
            tally[row.status] += 1
            tokens += row.output_tokens
    return tally, tokens


def _refuse_too_many_faults(tally: Counter[str], limit: float, folder: str) -> None:
    total = sum(tally.values())
    faults = total - tally[Status.OK]
    if faults > limit * total:
        common: Sequence[tuple[str, int]] = [(k, n) for k, n in tally.most_common() if k != Status.OK][:3]
        reasons = ", ".join(f"{name} {number}" for name, number in common)
        raise DataError(
            f"{folder}: {faults} of {total} samples have no usable texts ({reasons}), more than {limit:.1%}; "
            "look at the prompt and the model, or allow more with --max-fault-rate"
        )
