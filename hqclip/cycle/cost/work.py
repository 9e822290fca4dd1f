"""Shards and settings in, how much each stage has to do out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hqclip.config import CostConfig
from hqclip.cycle.cost.history import History
from hqclip.data.sources import list_shards
from hqclip.records import Pool
from hqclip.store import Store


@dataclass(frozen=True)
class Work:
    """What a stage has to do; `amount` is None if nobody can tell."""

    stage: str
    amount: int | None
    unit: str
    about: str = ""


def work_of_stages(
    config: CostConfig, store: Store, settings: Mapping[str, Mapping[str, Any]], num_trials: int, history: History
) -> list[Work]:
    """What each stage that wants a GPU has to do, in their order."""
    images, about, done = _images(config, store, history)
    left = None if images is None else images - done
    already = f"{done:,} annotated already" if done else ""
    scored = images if store.exists("champion.json") else 0
    samples = int(settings["train"]["samples_seen"]) * num_trials
    return [
        Work("annotate", left, "images", "; ".join(filter(None, [already, about]))),
        Work("score", scored, "images", about if scored or scored is None else "no champion yet"),
        Work("train", samples, "samples"),
        Work("evaluate", num_trials, "models"),
    ]


def _images(config: CostConfig, store: Store, history: History) -> tuple[int | None, str, int]:
    """How many there are, how that is known, and how many are annotated already.

    Shards that a pool of the store has are counted; the others are as dense as these.
    """
    if config.images >= 0:
        return config.images, "", 0
    pools = [key for key in store.list("pools/") if re.fullmatch(r"pools/\w+\.json", key)]
    entries = [entry for key in pools for entry in Pool.from_json(store.read(key), key).shards]
    known = {(entry.size, entry.crc32c): entry for entry in entries}
    rows = sum(entry.rows for entry in known.values())
    if not rows:
        return None, "give --images: the store has no pool to count by", 0
    contents = [(shard.size, shard.identity) for _, shard in list_shards(config.shards)]
    counted = [known[content] for content in contents if content in known]
    new = [size for size, crc32c in contents if (size, crc32c) not in known]
    estimated = round(sum(new) * rows / sum(entry.size for entry in known.values()))
    about = f"{estimated:,} images by the size of the shards" if new else ""
    return sum(entry.rows for entry in counted) + estimated, about, history.annotated(counted)
