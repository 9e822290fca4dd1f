"""What `datasets/{digest}/statistics.json` holds: how the texts of a data set version are distributed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypedDict

from hqclip.records import Manifest

# Where the bins of each histogram begin; the last is open.
BINS: dict[str, tuple[int, ...]] = {
    "words_per_description": (0, 5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 130, 160, 200),
    "clip_tokens_per_description": (0, 10, 20, 30, 40, 50, 60, 78, 100, 130, 160, 200, 300),
    "clip_tokens_per_sentence": (0, 5, 10, 15, 20, 25, 30, 40, 50, 60, 78, 100),
    "sentences_per_description": (0, 1, 2, 3, 4, 5, 6, 8, 12),
    "tags_per_sample": (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20),
    "negative_tags_per_sample": (0, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20),
    "negatives_per_sample": (0, 1, 2, 3, 4, 5, 6, 8, 12),
    "prompt_tokens": (0, 1, 100, 200, 300, 400, 500, 700, 1000, 1500, 2000, 3000),
    "output_tokens": (0, 1, 25, 50, 75, 100, 150, 200, 250, 300, 400, 600, 1000),
    "attempts": (0, 1, 2, 3, 4),
}
Histogram = TypedDict("Histogram", {"from": list[int], "counts": list[int]})


@dataclass(frozen=True, kw_only=True)
class Statistics(Manifest):
    """What the texts of a data set version are like.

    `histograms` maps a name of `BINS` to {"from": where each bin begins, "counts": rows in each}; the last bin is
    open, and `clip_tokens_per_sentence` counts sentences. `shares` are of `described` rows, but `long_sentences` of
    sentences. `openings` are the most frequent first five words of a description with their counts. `tag_entropy` is
    in bits. `negatives` counts the negative sentences that are kept and those that are empty.
    """

    KIND = "statistics"
    rows: int
    usable_rows: int
    described: int
    sentences: int
    negatives: dict[str, int]
    histograms: dict[str, Annotated[dict[str, list[int]], Histogram]]
    shares: dict[str, float]
    openings: tuple[tuple[str, int], ...]
    tags: int
    distinct_tags: int
    tag_entropy: float
