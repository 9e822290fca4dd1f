"""What a model was asked and got wrong in, a few examples for people to look at out, with small pictures.

Which ones is drawn by the uids alone, so that two models of equal faults show the same. Questions of text alone are
kept in full, classes one by one; pictures are bounded.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hqclip.clip import ExportedClip
from hqclip.data.images import thumbnail
from hqclip.data.outcomes import Outcomes
from hqclip.evaluate.benchmarks.checks import as_list
from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.classification import Classification
from hqclip.evaluate.benchmarks.matching import Matching
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.benchmarks.retrieval import Retrieval
from hqclip.evaluate.suite import Suite, shards_of
from hqclip.records import canonical_json
from hqclip.store import Store

FORMAT = 1
MAX_PICTURES = 240  # of all sets together
MOST = {Choice.KIND: 12, Matching.KIND: 6, Retrieval.KIND: 6}  # examples of one set
PICTURES = {Choice.KIND: 1, Matching.KIND: 2, Retrieval.KIND: 6}  # of one example
TOP = 5
SIDE = 112  # pixels

Images = Mapping[str, Tensor]


def choose_examples(benchmark: Benchmark, outcomes: Outcomes, clip: ExportedClip, images: Images) -> dict[str, Any]:
    """Examples of one benchmark, pictures by uid; nothing for a kind that has none.

    `outcomes` are those of the benchmark, `images` the embeddings of at least its images. A few texts are embedded
    again, no more.
    """
    if isinstance(benchmark, Classification):
        return {"kind": benchmark.KIND, "classes": _classes(benchmark, outcomes)}
    if isinstance(benchmark, Choice):
        right_N = outcomes.values[f"{benchmark.name}/accuracy"] > 0
        return _drawn(benchmark, right_N, benchmark.uids, lambda place: _choice(benchmark, place, clip, images))
    if isinstance(benchmark, Matching):
        right_P = outcomes.values[f"{benchmark.name}/group_score"] > 0
        return _drawn(benchmark, right_P, benchmark.uids[::2], lambda place: _match(benchmark, place))
    if isinstance(benchmark, Retrieval):
        most = np.array([len(as_list(texts)) for texts in benchmark.captions]) * len(benchmark.uids)
        found_N = outcomes.values[f"{benchmark.name}/text_to_image_r1"] * sum(
            len(as_list(texts)) for texts in benchmark.captions
        )
        image_ND = torch.stack([images[uid] for uid in benchmark.uids])
        right_N = found_N > most - 0.5  # all captions of the image find it
        return _drawn(benchmark, right_N, benchmark.uids, lambda place: _query(benchmark, place, clip, image_ND))
    return {}


def write_examples(store: Store, key: str, suite: Suite, chosen: Mapping[str, Mapping[str, Any]]) -> None:
    """Write what was chosen of the sets of a suite, with the pictures."""
    shown = {name: dict(one) for name, one in chosen.items() if one}
    pictured = [one for one in shown.values() if one.get("examples")]
    for one in pictured:
        one["examples"] = one["examples"][: max(1, MAX_PICTURES // PICTURES[one["kind"]] // len(pictured))]
    names = {name for name, one in shown.items() if one.get("examples")}
    wanted = {uid for one in pictured for example in one["examples"] for uid in _uids(example)}
    pictures = _pictures(suite, names, wanted)
    store.write(
        key,
        canonical_json({"format": FORMAT, "sets": shown, "pictures": pictures}),
        create_only=False,
    )


def _classes(benchmark: Classification, outcomes: Outcomes) -> list[list[Any]]:
    """Of every class its name, how many images it has and how many of them were found."""
    right = outcomes.values[f"{benchmark.name}/mean_per_class_recall"]
    images = Counter(benchmark.labels)
    found = Counter(label for label, value in zip(benchmark.labels, right.tolist(), strict=True) if value)
    return [[name, images[label], found[label]] for label, name in enumerate(benchmark.classes) if images[label]]


def _drawn(
    benchmark: Benchmark, right: np.ndarray[Any, Any], uids: Iterable[str], show: Callable[[int], dict[str, Any]]
) -> dict[str, Any]:
    """Items that were wrong: drawn by the digest of name and uid, one of each group in turn."""
    groups = getattr(benchmark, "groups", None)
    wrong = [(place, uid) for place, (uid, ok) in enumerate(zip(uids, right, strict=True)) if not ok]
    wrong.sort(key=lambda item: hashlib.sha256(f"{benchmark.name} {item[0]} {item[1]}".encode()).digest())
    turns: Counter[str] = Counter()
    in_turn = []
    for place, _ in wrong:
        group = groups[place] if groups else ""
        in_turn.append((turns[group], place, group))
        turns[group] += 1
    in_turn.sort(key=lambda item: item[0])
    chosen = sorted(in_turn[: MOST[benchmark.KIND]], key=lambda item: item[2])
    examples = [{"group": group, **show(place)} for _, place, group in chosen]
    return {"kind": benchmark.KIND, "items": len(right), "wrong": len(wrong), "examples": examples}


def _choice(benchmark: Choice, place: int, clip: ExportedClip, images: Images) -> dict[str, Any]:
    """The image, the true caption, and the false one that scored highest."""
    false = as_list(benchmark.negatives[place])
    uid = benchmark.uids[place]
    best = int((clip.texts(false) @ images[uid]).argmax()) if len(false) > 1 else 0
    return {"image": uid, "true": benchmark.positives[place], "false": false[best]}


def _match(benchmark: Matching, place: int) -> dict[str, Any]:
    both = slice(2 * place, 2 * place + 2)
    return {"images": list(benchmark.uids[both]), "captions": list(benchmark.captions[both])}


def _query(benchmark: Retrieval, place: int, clip: ExportedClip, image_ND: Tensor) -> dict[str, Any]:
    """The caption of an image that finds others first: the first five found, and where its own image came."""
    captions = as_list(benchmark.captions[place])
    scores_CN = clip.texts(captions) @ image_ND.T
    rank_C = (scores_CN >= scores_CN[:, place : place + 1]).sum(1)
    worst = int(rank_C.argmax())
    top = scores_CN[worst].topk(min(TOP, len(image_ND))).indices.tolist()
    uids = benchmark.uids
    found = {"top": [uids[other] for other in top], "right": uids[place], "rank": int(rank_C[worst])}
    return {"query": captions[worst], **found}


def _uids(example: Mapping[str, Any]) -> list[str]:
    one = [example[name] for name in ("image", "right") if name in example]
    return [*one, *example.get("images", ()), *example.get("top", ())]


def _pictures(suite: Suite, names: set[str], wanted: set[str]) -> dict[str, str]:
    """Small JPEGs by uid, as base64; only the shards of these sets are read."""
    left, found = set(wanted), dict[str, str]()
    sets = tuple(one for one in suite.sets if one.benchmark.name in names)
    if not left:
        return found
    for shard in shards_of(replace(suite, sets=sets)):
        with shard.path.open("rb") as file:
            for row in shard.rows:
                if row.uid in left:
                    left.discard(row.uid)
                    image = os.pread(file.fileno(), row.image_size, row.image_offset)
                    found[row.uid] = base64.b64encode(thumbnail(image, SIDE)).decode()
        if not left:
            break
    return found
