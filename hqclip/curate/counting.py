"""Curated rows in, how their texts are distributed out: `datasets/{digest}/statistics.json`.

Counted over the rows that are trained on with generated texts, shard by shard; no text is kept but the most frequent
openings. The same rows in the same order give the same bytes, so two versions can be compared by their files.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hqclip.curate.clip_length import CONTEXT, MARKS, clip_tokens
from hqclip.curate.statistics import BINS, Statistics
from hqclip.data.sidecar import UNUSABLE, CuratedRow
from hqclip.data.text_choice import describes
from hqclip.records import Annotation

OPENING_WORDS = 5
TOP_OPENINGS = 20
MAX_OPENINGS = 200_000  # remembered at a time; beyond it, those met once are forgotten
MAX_DESCRIPTIONS = 2_000_000  # whose hashes are remembered to find duplicates, 64 bits each


@dataclass
class Count:
    """What was counted so far; `statistics` says what it comes to."""

    rows: int = 0
    usable: int = 0
    described: int = 0
    sentences: int = 0
    long_sentences: int = 0
    duplicates: int = 0
    kept: int = 0
    emptied: int = 0
    histograms: dict[str, list[int]] = field(default_factory=lambda: {name: [0] * len(at) for name, at in BINS.items()})
    openings: Counter[str] = field(default_factory=Counter)
    _met: set[bytes] = field(default_factory=set)

    def add(self, rows: Iterable[CuratedRow]) -> None:
        """Count the rows of a shard."""
        for row in rows:
            self.rows += 1
            if row.flags & UNUSABLE:
                continue
            self.usable += 1
            if describes(row.annotation):
                self._describe(row, row.annotation)
        if len(self.openings) > MAX_OPENINGS:
            self.openings = Counter({text: count for text, count in self.openings.items() if count > 1})

    def _describe(self, row: CuratedRow, annotation: Annotation) -> None:
        text = " ".join(annotation.desc).casefold()
        words = text.split()
        lengths = [clip_tokens(sentence) for sentence in annotation.desc]
        kept = sum(map(bool, annotation.neg_desc))
        self.described += 1
        self.sentences += len(lengths)
        self.long_sentences += sum(length > CONTEXT for length in lengths)
        self.kept += kept
        self.emptied += len(annotation.neg_desc) - kept
        self.openings[" ".join(words[:OPENING_WORDS])] += 1
        self._compare(text)
        for length in lengths:
            self._enter("clip_tokens_per_sentence", length)
        self._enter("clip_tokens_per_description", sum(lengths) - MARKS * max(len(lengths) - 1, 0))
        self._enter("words_per_description", len(words))
        self._enter("sentences_per_description", len(lengths))
        self._enter("tags_per_sample", len(annotation.tags))
        self._enter("negative_tags_per_sample", len(annotation.neg_tags))
        self._enter("negatives_per_sample", kept)
        for name in ("prompt_tokens", "output_tokens", "attempts"):
            self._enter(name, getattr(row, name))

    def _compare(self, text: str) -> None:
        """Count a description that was met before, among the first `MAX_DESCRIPTIONS` different ones."""
        key = hashlib.blake2b(text.encode(), digest_size=8).digest()
        if key in self._met:
            self.duplicates += 1
        elif len(self._met) < MAX_DESCRIPTIONS:
            self._met.add(key)

    def _enter(self, name: str, value: int) -> None:
        self.histograms[name][bisect_right(BINS[name], value) - 1] += 1

    def statistics(self, tags: Mapping[str, int]) -> Statistics:
        """The counts as they are written; `tags` counts every tag of the usable rows."""
        top = sorted(self.openings.items(), key=lambda item: (-item[1], item[0]))[:TOP_OPENINGS]
        return Statistics(
            rows=self.rows,
            usable_rows=self.usable,
            described=self.described,
            sentences=self.sentences,
            negatives={"kept": self.kept, "emptied": self.emptied},
            histograms={name: {"from": list(at), "counts": self.histograms[name]} for name, at in BINS.items()},
            shares={
                "duplicate_descriptions": _share(self.duplicates, self.described),
                "top_opening": _share(top[0][1] if top else 0, self.described),
                "long_sentences": _share(self.long_sentences, self.sentences),
            },
            openings=tuple(top),
            tags=sum(tags.values()),
            distinct_tags=len(tags),
            tag_entropy=entropy(tags.values()),
        )


def entropy(counts: Iterable[int]) -> float:
    """Bits a draw from these counts tells, to six places; 0 where everything is the same."""
    known = [count for count in counts if count]
    total = sum(known)
    bits = math.fsum(-count / total * math.log2(count / total) for count in known)
    return round(bits, 6) + 0.0


def _share(part: int, whole: int) -> float:
    return round(part / whole, 6) if whole else 0.0
