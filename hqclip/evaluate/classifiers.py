"""A benchmark in, the embeddings of its texts out; a classifier that the model has made before is read instead.

A classifier is a class name in every template (80 in ImageNet's), which several sets have in common. Ranks embed whole
batches in turn, as one rank alone would embed them; rank 0 has all embeddings, the others have empty ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hqclip.clip import ExportedClip, in_order
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.ranks import Ranks
from hqclip.records import digest_of
from hqclip.store import Store


def embed_texts(store: Store, clip: ExportedClip, benchmark: Benchmark, ranks: Ranks) -> dict[str, Tensor]:
    """What `benchmark.measure` takes. Raises `DataError` for a kept classifier that is damaged."""
    if isinstance(benchmark, Classification):
        return {"prompts": _classifier(store, clip, benchmark, ranks)}
    return {column: _texts(clip, texts, ranks) for column, texts in benchmark.texts().items()}


def _texts(clip: ExportedClip, texts: Sequence[str], ranks: Ranks) -> Tensor:
    """(texts, D) float32. The last rank begins: rank 0 has the first images of a set, and most else to do."""

    def embed() -> Tensor:
        own = batches[ranks.world_size - 1 - ranks.rank :: ranks.world_size]
        return torch.cat([clip.text_batch(batch) for batch in own]) if own else torch.empty(0, 1)

    batches = ranks.on_all_ranks(lambda: clip.text_batches(texts))
    parts = ranks.group.rows_on_rank_zero(ranks.rank, ranks.on_all_ranks(embed))
    if not batches or not parts:
        return torch.empty(0, 1)
    turns = chain.from_iterable(batches[turn :: ranks.world_size] for turn in reversed(range(ranks.world_size)))
    return in_order(list(turns), torch.cat([part for part in parts if len(part)]))


def _classifier(store: Store, clip: ExportedClip, benchmark: Classification, ranks: Ranks) -> Tensor:
    """(K, D) float32: the mean over templates, not normalised."""
    made_of = digest_of([list(benchmark.classes), list(benchmark.templates), str(clip.device)])
    key = f"evaluations/{clip.digest}/classifiers/{made_of}.safetensors"
    is_there = ranks.on_rank_zero(lambda: store.exists(key))
    prompts = torch.empty(0, 1) if is_there else _texts(clip, benchmark.texts()["prompts"], ranks)

    def make() -> Tensor:
        if ranks.rank:
            return torch.empty(0, 1)
        if is_there:
            return _read(store, key, len(benchmark.classes))
        return _write(store, key, benchmark.mean_prompts(prompts))

    return ranks.on_all_ranks(make)


def _write(store: Store, key: str, class_KD: Tensor) -> Tensor:
    store.write(key, save({"classes": class_KD.contiguous()}), create_only=False)
    return class_KD


def _read(store: Store, key: str, classes: int) -> Tensor:
    try:
        class_KD = load(store.read(key))["classes"]
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{store.uri}/{key} is damaged ({error!r}); delete it and run `evaluate` again") from error
    if class_KD.dtype != torch.float32 or class_KD.ndim != 2 or len(class_KD) != classes:
        raise DataError(f"{store.uri}/{key} is no classifier of {classes} classes; delete it and run `evaluate` again")
    return class_KD
