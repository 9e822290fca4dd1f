"""A data set version in, the rows worth looking at out: some by chance, the worst, and a few for every rule."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from hqclip.data.dataset import DatasetShard
from hqclip.data.sidecar import CuratedRow, ScoredRow, read_curated, read_scores
from hqclip.records import DatasetVersion, Status
from hqclip.store import Store

SAMPLES = 8  # by chance, and as many of the worst
EXAMPLES = 4  # of each rule
MAX_SHARDS = 8  # that are read
MAX_ALIKE = 2  # of the worst with the same faults


@dataclass(frozen=True)
class Pick:
    """One row of one shard; `is_large` if it is shown as a sample, not as an example."""

    shard: DatasetShard
    number: int
    row: CuratedRow
    is_large: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """Names the row."""
        return self.shard.key, self.number


@dataclass
class SampledRows:
    """Rows to show; `similarities` are (description, false sentences) cosines of the rows looked at."""

    random: list[Pick] = field(default_factory=list)
    worst: list[Pick] = field(default_factory=list)
    examples: dict[str, list[Pick]] = field(default_factory=dict)
    similarities: list[tuple[float, float]] = field(default_factory=list)
    looked_at: int = 0


def sample_rows(store: Store, version: DatasetVersion, shards: Sequence[DatasetShard]) -> SampledRows:
    """The same rows for the same version."""
    rng = np.random.default_rng(int(version.digest, 16))
    sampled = SampledRows()
    drawn: list[tuple[float, Pick]] = []
    bad: list[tuple[tuple[float, float], Pick]] = []
    for at in rng.permutation(len(shards))[:MAX_SHARDS].tolist():
        shard = shards[at]
        rows = read_curated(store, shard.curated, shard.entry)
        scores = read_scores(store, shard.scores, shard.entry) if shard.scores else []
        order = rng.permutation(len(rows)).tolist()
        picks = [Pick(shard, number, rows[number], is_large=True) for number in order]
        sampled.looked_at += len(rows)
        sampled.similarities += [(s.sim_desc, s.sim_neg_desc) for s in scores if _is_known(s)]
        _add_examples(sampled.examples, picks)
        drawn = sorted([*drawn, *zip(rng.random(len(picks)).tolist(), picks, strict=True)], key=_rank)[:SAMPLES]
        ranked = [(_badness(pick.row, scores[pick.number] if scores else None), pick) for pick in picks]
        bad = _most_diverse([*bad, *(entry for entry in ranked if entry[0] < (0.0, 0.0))])
    sampled.random = [pick for _, pick in drawn]
    taken = {pick.key for pick in sampled.random}
    sampled.worst = [pick for _, pick in bad if pick.key not in taken][:SAMPLES]
    return sampled


def _is_known(score: ScoredRow) -> bool:
    return not math.isnan(score.sim_desc) and not math.isnan(score.sim_neg_desc)


def _rank(entry: tuple[float, Pick]) -> float:
    return entry[0]


def _add_examples(examples: dict[str, list[Pick]], picks: Iterable[Pick]) -> None:
    for pick in picks:
        names = [str(flag.name).lower() for flag in pick.row.flags]
        if pick.row.status != Status.OK:
            names.append(str(pick.row.status))
        for name in dict.fromkeys(names):
            found = examples.setdefault(name, [])
            if len(found) < EXAMPLES:
                found.append(Pick(pick.shard, pick.number, pick.row))


def _badness(row: CuratedRow, score: ScoredRow | None) -> tuple[float, float]:
    """Smaller is worse: flags and further attempts, then similarity. Faults are no bad texts."""
    if row.status != Status.OK:
        return 0.0, 0.0
    similarity = score.sim_desc if score and not math.isnan(score.sim_desc) else 0.0
    return -float(len(row.flags) + row.attempts - 1), similarity


def _most_diverse(bad: list[tuple[tuple[float, float], Pick]]) -> list[tuple[tuple[float, float], Pick]]:
    """The worst, at most `MAX_ALIKE` with the same flags; twice as many as are shown, for some may be shown already."""
    met: Counter[int] = Counter()
    kept = []
    for entry in sorted(bad, key=lambda entry: entry[0]):
        flags = int(entry[1].row.flags)
        met[flags] += 1
        if met[flags] <= MAX_ALIKE:
            kept.append(entry)
    return kept[: 2 * SAMPLES]
