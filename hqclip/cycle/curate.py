"""Annotations and scores in, a data set version out: cleaned by rule, counted, named by its content."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hqclip import __version__
from hqclip.config import CurateConfig
from hqclip.cycle.policy import POLICY, clean
from hqclip.data.dataset import Contents, DatasetShard, content_digest, vocabulary, write_dataset
from hqclip.data.sidecar import (
    UNUSABLE,
    CuratedRow,
    Flag,
    ScoredRow,
    read_annotations,
    read_curated,
    read_scores,
    write_curated,
)
from hqclip.errors import DataError, NotFoundError
from hqclip.records import AnnotatedRow, DatasetVersion, Pool, ShardEntry, Status, digest_of
from hqclip.store import Store, open_store


@dataclass(frozen=True)
class Limits:
    """Similarities below which a text is not trusted; minus infinity without scores."""

    description: float = -np.inf
    alt_text: float = -np.inf


@dataclass
class Tally:
    """What was met on the way through the shards."""

    uids: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    usable: int = 0

    def add(self, rows: Sequence[CuratedRow]) -> int:
        """Count the rows of a shard; how many of them can be trained on."""
        usable = [row for row in rows if not row.flags & UNUSABLE]
        self.statuses.update(str(row.status) for row in rows)
        self.flags.update(str(flag.name).lower() for row in rows for flag in row.flags)
        self.tags.update(tag for row in usable if row.annotation for tag in row.annotation.tags)
        self.uids.update(row.uid for row in rows)
        self.rows += len(rows)
        self.usable += len(usable)
        return len(usable)


def run(config: CurateConfig) -> dict[str, Any]:
    """Write the curated sidecars that are missing, and the version. Raises `DataError` if too little is left."""
    start = time.monotonic()
    store = open_store(config.store)
    if config.parent and not store.exists(f"datasets/{config.parent}/dataset.json"):
        raise NotFoundError(f"parent {config.parent!r}: there is no data set of that digest in {store.uri}")
    pool = Pool.from_json(store.read(config.pool), config.pool)
    annotator, scorer = config.annotations.rpartition("/")[2], config.scores.rpartition("/")[2]
    policy = digest_of([POLICY, config.drop_share, config.weak_alt_share, scorer, pool.digest])
    limits = _limits(store, pool, config) if config.scores else Limits()
    tally = Tally()
    shards = []
    for entry in pool.shards:
        key = f"curated/{annotator}-{policy}/{entry.name}.parquet"
        scored = f"{config.scores}/{entry.name}.parquet" if config.scores else ""
        if not store.exists(key):
            annotated = read_annotations(store, f"{config.annotations}/{entry.name}.parquet", entry)
            scores = read_scores(store, scored, entry) if scored else None
            write_curated(store, key, curate_shard(annotated, scores, limits, tally.uids), entry, annotator)
        usable = tally.add(read_curated(store, key, entry))
        shards.append(_dataset_shard(store, entry, key, scored, usable))
    if tally.rows - tally.usable > config.max_drop_rate * tally.rows:
        raise DataError(
            f"{tally.rows - tally.usable} of {tally.rows} samples are unusable, more than {config.max_drop_rate:.1%} "
            f"(flags: {dict(tally.flags.most_common(3))}); look at the policy, or allow more with --max-drop-rate"
        )
    contents = Contents(tuple(shards), tally.tags)
    tags = vocabulary(tally.tags, config.tag_vocabulary)
    version = DatasetVersion(
        digest=content_digest(contents, list(tags)),
        name=config.name,
        parent=config.parent,
        pool=pool.digest,
        annotator=annotator,
        policy=policy,
        score_model=scorer.partition("-")[0],
        rows=tally.rows,
        usable_rows=tally.usable,
        counts=dict(tally.statuses),
        flags=dict(tally.flags),
        tag_vocabulary=len(tags),
        code_version=__version__,
    )
    key = write_dataset(store, contents, tags, version)
    return {
        "dataset": key,
        "digest": version.digest,
        "rows": version.rows,
        "usable_rows": version.usable_rows,
        "flags": version.flags,
        "statuses": version.counts,
        "seconds": time.monotonic() - start,
    }


def curate_shard(
    rows: Sequence[AnnotatedRow], scores: Sequence[ScoredRow] | None, limits: Limits, seen: set[str]
) -> list[CuratedRow]:
    """Clean and judge every row; none is removed, only flagged. `seen` are the uids of earlier shards."""
    curated = []
    for number, row in enumerate(rows):
        annotation, flags = clean(row.annotation) if row.annotation else (None, Flag(0))
        if scores is not None:
            flags |= judge(scores[number], limits)
        if row.uid in seen:
            flags |= Flag.DUPLICATE_UID
        if row.status is Status.UNREADABLE_IMAGE:
            flags |= Flag.UNREADABLE_IMAGE
        curated.append(CuratedRow(**{**vars(row), "annotation": annotation, "flags": flags}))
    return curated


def judge(score: ScoredRow, limits: Limits) -> Flag:
    """What the champion thinks of a sample's texts; NaN (no such text) is never below a limit."""
    flags = Flag(0)
    if score.sim_desc < limits.description:
        flags |= Flag.LOW_SIMILARITY
    if score.sim_text < limits.alt_text:
        flags |= Flag.WEAK_ALT_TEXT
    if score.sim_neg_desc >= score.sim_desc:
        flags |= Flag.NEGATIVE_LOOKS_TRUE
    return flags


def _limits(store: Store, pool: Pool, config: CurateConfig) -> Limits:
    """The similarities that cut off the configured shares of the whole pool."""
    rows = [row for entry in pool.shards for row in read_scores(store, f"{config.scores}/{entry.name}.parquet", entry)]
    return Limits(
        description=_quantile([row.sim_desc for row in rows], config.drop_share),
        alt_text=_quantile([row.sim_text for row in rows], config.weak_alt_share),
    )


def _quantile(values: list[float], share: float) -> float:
    known = np.array([value for value in values if not np.isnan(value)])
    return float(np.quantile(known, share)) if len(known) and share else -np.inf


def _dataset_shard(store: Store, entry: ShardEntry, curated: str, scores: str, usable: int) -> DatasetShard:
    info = store.stat(curated)
    assert info is not None  # it was written or read a moment ago
    return DatasetShard(
        entry.key, entry.index, entry.size, entry.crc32c, entry.rows, curated, info.crc32c, scores, usable
    )
