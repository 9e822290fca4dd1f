"""Annotations and scores in, a data set version out: cleaned by rule, counted, named by its content.

Shards go through one after another, none of their texts is kept. What is decided about a row depends on the row, its
alt-text, its scores and the settings; the limits only decide whether the stage fails.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hqclip import __version__
from hqclip.config import CurateConfig
from hqclip.curate.annotator import read_annotator
from hqclip.curate.counting import Count
from hqclip.curate.dataset_report import write_dataset_report
from hqclip.curate.drift import drift
from hqclip.curate.filters import VERSION, Reading, clean
from hqclip.curate.gate import check, enforce
from hqclip.curate.rules import limits
from hqclip.curate.standard import Standard, judge, read_standard
from hqclip.curate.statistics import Statistics
from hqclip.data.captions import is_text
from hqclip.data.dataset import Contents, DatasetShard, content_digest, vocabulary, write_dataset
from hqclip.data.index import read_index
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
from hqclip.data.text_choice import describes
from hqclip.errors import NotFoundError
from hqclip.progress import Progress
from hqclip.provenance import made_by
from hqclip.records import AnnotatedRow, DatasetVersion, Pool, ShardEntry, Status, digest_of
from hqclip.store import Store, open_store


@dataclass
class Tally:
    """What was met on the way through the shards."""

    uids: set[str] = field(default_factory=set)
    statuses: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    texts: Count = field(default_factory=Count)

    def add(self, rows: Sequence[CuratedRow]) -> int:
        """Count the rows of a shard; how many of them can be trained on."""
        usable = [row for row in rows if not row.flags & UNUSABLE]
        self.statuses.update(str(row.status) for row in rows)
        for flags, count in Counter(row.flags for row in rows).items():
            self.flags.update({str(flag.name).lower(): count for flag in flags})
        self.tags.update(tag for row in usable if row.annotation for tag in row.annotation.tags)
        self.uids.update(row.uid for row in rows)
        self.texts.add(rows)
        return len(usable)


def run(config: CurateConfig) -> dict[str, Any]:
    """Write the curated sidecars that are missing, the statistics and the version.

    Raises `DataError` if too little is left, or if a rule or the drift is over its limit and `gate` is `fail`.
    """
    start = time.monotonic()
    allowed = limits(config.limits)
    store = open_store(config.store)
    parent = config.parent and f"datasets/{config.parent}/dataset.json"
    if parent and not store.exists(parent):
        raise NotFoundError(f"parent {config.parent!r}: there is no data set of that digest in {store.uri}")
    pool = Pool.from_json(store.read(config.pool), config.pool)
    instruction = str(read_annotator(store, config.annotations).get("instruction", ""))
    annotator, scorer = config.annotations.rpartition("/")[2], config.scores.rpartition("/")[2]
    decides = [config.drop_share, config.weak_alt_share, config.negative_margin, config.language, instruction]
    policy = digest_of([VERSION, *decides, scorer, pool.digest])
    standard = read_standard(store, pool, config, Reading.of(config.language, instruction))
    tally = Tally()
    contents = Contents(tuple(_curated_shards(store, pool, config, policy, standard, tally)), tally.tags)
    tags = vocabulary(tally.tags, config.tag_vocabulary)
    version = DatasetVersion(
        digest=content_digest(contents, list(tags)),
        name=config.name,
        parent=config.parent,
        pool=pool.digest,
        annotator=annotator,
        policy=policy,
        score_model=scorer.partition("-")[0],
        rows=tally.texts.rows,
        usable_rows=tally.texts.usable,
        counts=dict(tally.statuses),
        flags=dict(tally.flags),
        tag_vocabulary=len(tags),
        code_version=__version__,
        provenance=made_by("curate", config.to_mapping(), [config.pool, config.annotations, config.scores, parent]),
    )
    statistics = tally.texts.statistics(tally.tags)
    drifted = drift(store, version, statistics, tags) if config.parent else {}
    _write_statistics(store, f"datasets/{version.digest}", statistics)
    dataset = write_dataset(store, contents, tags, version)
    checked = check(version, allowed, drifted, config.max_drift)
    page = write_dataset_report(store, dataset, checked)
    enforce(config, version, checked, f"{store.uri}/{page}")
    result = {
        "dataset": dataset,
        "digest": version.digest,
        "rows": version.rows,
        "usable_rows": version.usable_rows,
        "flags": version.flags,
        "statuses": version.counts,
        "drift": drifted,
        "exceeded": checked.over,
    }
    return {**result, "report": page, "seconds": time.monotonic() - start}


def _curated_shards(
    store: Store, pool: Pool, config: CurateConfig, policy: str, standard: Standard, tally: Tally
) -> list[DatasetShard]:
    """Curate what is missing and count everything, shard by shard."""
    annotator = config.annotations.rpartition("/")[2]
    shards = []
    with Progress("curate", pool.rows, "rows") as progress:
        for entry in pool.shards:
            key = f"curated/{annotator}-{policy}/{entry.name}.parquet"
            scored = f"{config.scores}/{entry.name}.parquet" if config.scores else ""
            if not store.exists(key):
                annotated = read_annotations(store, f"{config.annotations}/{entry.name}.parquet", entry)
                alt_texts = read_index(store, entry).texts
                scores = read_scores(store, scored, entry) if scored else None
                rows = curate_shard(annotated, alt_texts, scores, standard, tally.uids)
                write_curated(store, key, rows, entry, annotator)
            usable = tally.add(read_curated(store, key, entry))
            shards.append(_dataset_shard(store, entry, key, scored, usable))
            progress.advance(entry.rows)
    return shards


def curate_shard(
    rows: Sequence[AnnotatedRow],
    alt_texts: Sequence[str],
    scores: Sequence[ScoredRow] | None,
    standard: Standard,
    seen: set[str],
) -> list[CuratedRow]:
    """Clean and judge every row; none is removed, only flagged. `seen` are the uids of earlier shards."""
    curated = []
    for number, row in enumerate(rows):
        annotation, flags = None, Flag(0)
        if row.annotation:
            annotation, flags = clean(row.annotation, alt_texts[number], standard.reading)
        if scores is not None:
            flags |= judge(scores[number], standard)
        if row.uid in seen:
            flags |= Flag.DUPLICATE_UID
        if row.status is Status.UNREADABLE_IMAGE:
            flags |= Flag.UNREADABLE_IMAGE
        if not is_text(alt_texts[number]) and not describes(annotation):
            flags |= Flag.NO_TEXT
        curated.append(CuratedRow(**{**vars(row), "annotation": annotation, "flags": flags}))
    return curated


def _write_statistics(store: Store, folder: str, statistics: Statistics) -> None:
    """Those of a version that exists are left as they are, like the version beside them."""
    key = f"{folder}/statistics.json"
    if not store.exists(f"{folder}/dataset.json") or not store.exists(key):
        store.write(key, statistics.to_json(), create_only=False)


def _dataset_shard(store: Store, entry: ShardEntry, curated: str, scores: str, usable: int) -> DatasetShard:
    info = store.stat(curated)
    assert info is not None  # it was written or read a moment ago
    return DatasetShard(
        entry.key, entry.index, entry.size, entry.crc32c, entry.rows, curated, info.crc32c, scores, usable
    )
