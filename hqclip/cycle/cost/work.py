"""Shards and settings in, how much each stage has to do out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hqclip.cycle.cost.history import History
from hqclip.records import Pool
from hqclip.store import Store
from hqclip.store.documents import read_if_there


@dataclass(frozen=True)
class Work:
    """What a stage has to do; `amount` is None if nobody can tell. `done` is what is done of it, beside the amount."""

    stage: str
    amount: int | None
    unit: str
    about: str = ""
    done: int = 0


def work_of_stages(
    shards: Iterable[tuple[int, int | str]],
    images: int,
    store: Store,
    settings: Mapping[str, Mapping[str, Any]],
    trials: Sequence[Mapping[str, Any]],
    history: History,
) -> list[Work]:
    """What each stage that wants a GPU has to do, in their order; `images` are those in the shards, -1 counts them.

    Of `shards` come sizes and identities, which are taken only where there is something to count by.
    """
    known, about, done = _images(shards, images, store, history)
    left = None if known is None else known - done
    already = f"{done:,} annotated already" if done else ""
    scored = known if store.exists("champion.json") else 0
    return [
        Work("annotate", left, "images", "; ".join(filter(None, [already, about])), done),
        Work("score", scored, "images", about if scored or scored is None else "no champion yet"),
        *training_work(settings, trials, trials),
    ]


def training_work(
    settings: Mapping[str, Mapping[str, Any]],
    to_train: Iterable[Mapping[str, Any]],
    to_judge: Sequence[Mapping[str, Any]],
) -> list[Work]:
    """What the training and the judging of these trials has to do."""
    budgets = ({**settings["train"], **trial["settings"]}["samples_seen"] for trial in to_train)
    return [Work("train", sum(map(int, budgets)), "samples"), Work("evaluate", len(to_judge), "models")]


def _images(
    shards: Iterable[tuple[int, int | str]], images: int, store: Store, history: History
) -> tuple[int | None, str, int]:
    """How many there are, how that is known, and how many are annotated already.

    Shards that a pool of the store has are counted; the others are as dense as these.
    """
    if images >= 0:
        return images, "", 0
    pools = [key for key in store.list("pools/") if re.fullmatch(r"pools/\w+\.json", key)]
    there = [pool for key in pools if (pool := read_if_there(store, key, Pool))]  # `hqclip gc` may just delete one
    entries = [entry for pool in there for entry in pool.shards]
    known = {(entry.size, entry.crc32c): entry for entry in entries}
    rows = sum(entry.rows for entry in known.values())
    if not rows:
        return None, "give --images: the store has no pool to count by", 0
    contents = list(shards)
    counted = [known[content] for content in contents if content in known]
    new = [size for size, crc32c in contents if (size, crc32c) not in known]
    estimated = round(sum(new) * rows / sum(entry.size for entry in known.values()))
    about = f"{estimated:,} images by the size of the shards" if new else ""
    return sum(entry.rows for entry in counted) + estimated, about, history.annotated(counted)
