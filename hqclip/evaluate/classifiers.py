"""A benchmark in, the embeddings of its texts out; a classifier that the model has made before is read instead.

A classifier is a class name in every template (80 in ImageNet's), which several sets have in common.
"""

from __future__ import annotations

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.records import digest_of
from hqclip.store import Store


def embed_texts(store: Store, clip: ExportedClip, benchmark: Benchmark) -> dict[str, Tensor]:
    """What `benchmark.measure` takes. Raises `DataError` for a kept classifier that is damaged."""
    if isinstance(benchmark, Classification):
        return {"prompts": _classifier(store, clip, benchmark)}
    return {column: clip.texts(texts) for column, texts in benchmark.texts().items()}


def _classifier(store: Store, clip: ExportedClip, benchmark: Classification) -> Tensor:
    """(K, D) float32: the mean over templates, not normalised."""
    made_of = digest_of([list(benchmark.classes), list(benchmark.templates), str(clip.device)])
    key = f"evaluations/{clip.digest}/classifiers/{made_of}.safetensors"
    if store.exists(key):
        return _read(store, key, len(benchmark.classes))
    class_KD = benchmark.mean_prompts(clip.texts(benchmark.texts()["prompts"]))
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
