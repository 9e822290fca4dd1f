"""Settings and the scores of a pool in, what rows are judged by out; and what the champion thinks of one row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hqclip.config import CurateConfig
from hqclip.curate.filters import Reading
from hqclip.data.sidecar import Flag, ScoredRow, read_scores
from hqclip.records import Pool
from hqclip.store import Store


@dataclass(frozen=True)
class Standard:
    """What rows are judged by; similarities below which a text is not trusted are minus infinity without scores."""

    reading: Reading = field(default_factory=Reading)
    description: float = -np.inf
    alt_text: float = -np.inf
    margin: float = 0.0


def read_standard(store: Store, pool: Pool, config: CurateConfig, reading: Reading) -> Standard:
    """With the similarities that cut off the configured shares of the whole pool."""
    if not config.scores:
        return Standard(reading)
    columns: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    for entry in pool.shards:
        rows = read_scores(store, f"{config.scores}/{entry.name}.parquet", entry)
        columns.append(np.array([[row.sim_desc, row.sim_text] for row in rows], np.float32).reshape(-1, 2))
    desc, text = np.concatenate(columns).T if columns else np.empty((2, 0), np.float32)
    return Standard(
        reading, _quantile(desc, config.drop_share), _quantile(text, config.weak_alt_share), config.negative_margin
    )


def _quantile(values: np.ndarray[Any, np.dtype[np.float32]], share: float) -> float:
    known = values[~np.isnan(values)].astype(np.float64)
    return float(np.quantile(known, share)) if len(known) and share else -np.inf


def judge(score: ScoredRow, standard: Standard) -> Flag:
    """What the champion thinks of a sample's texts; NaN (no such text) is never below a limit.

    Similarities are means over sentences, so a row's negatives are doubted together.
    """
    flags = Flag(0)
    if score.sim_desc < standard.description:
        flags |= Flag.LOW_SIMILARITY
    if score.sim_text < standard.alt_text:
        flags |= Flag.WEAK_ALT_TEXT
    if score.sim_desc - score.sim_neg_desc <= standard.margin:
        flags |= Flag.NEGATIVE_LOOKS_TRUE
    return flags
