"""Two data set versions in, how far their distributions lie apart out: population stability indexes by name.

PSI is the sum over bins of (q - p) ln(q / p), p and q being the shares of the bin in the parent and now. Below 0.1
is commonly called stable, above 0.25 a large change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from hqclip.curate.statistics import BINS, Statistics
from hqclip.data.dataset import read_tags
from hqclip.records import DatasetVersion
from hqclip.store import Store
from hqclip.store.documents import read_if_there

TOP_TAGS = 1000


def drift(store: Store, version: DatasetVersion, statistics: Statistics, tags: Mapping[str, int]) -> dict[str, float]:
    """How `version` differs from its parent: `statuses`, `flags`, `tags`, and every histogram that both have.

    `flags` is the flag that changed most. A parent from before there were statistics is compared without them.
    """
    folder = f"datasets/{version.parent}"
    parent = DatasetVersion.from_json(store.read(f"{folder}/dataset.json"), f"{folder}/dataset.json")
    parent_tags = read_tags(store, folder)
    found = {
        "statuses": _psi_by_name(parent.counts, version.counts),
        "flags": flag_drift(parent, version),
        "tags": tag_drift(parent_tags, tags),
    }
    earlier = read_if_there(store, f"{folder}/statistics.json", Statistics)
    if earlier is not None:
        before = earlier.histograms
        for name in BINS:
            now = statistics.histograms[name]
            if name in before and before[name]["from"] == now["from"]:
                found[name] = psi(before[name]["counts"], now["counts"])
    return found


def psi(before: Sequence[int], after: Sequence[int]) -> float:
    """Population stability index of two histograms with the same bins; half a count in every bin keeps it finite."""
    if len(before) != len(after):
        raise ValueError(f"{len(before)} and {len(after)} bins")
    if not sum(before) or not sum(after):
        return 0.0
    p_total, q_total = sum(before) + len(before) / 2, sum(after) + len(after) / 2
    shares = (((p + 0.5) / p_total, (q + 0.5) / q_total) for p, q in zip(before, after, strict=True))
    return round(math.fsum((q - p) * math.log(q / p) for p, q in shares), 6) + 0.0


def flag_drift(parent: DatasetVersion, version: DatasetVersion) -> float:
    """The largest index of a single flag, its rows against the others: a row may have several flags."""

    def split(of: DatasetVersion, name: str) -> list[int]:
        count = of.flags.get(name, 0)
        return [count, of.rows - count]

    names = {*parent.flags, *version.flags}
    return max((psi(split(parent, name), split(version, name)) for name in names), default=0.0)


def tag_drift(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    """Over the parent's most frequent tags, and all others in one bin."""
    top = sorted(before, key=lambda tag: (-before[tag], tag))[:TOP_TAGS]
    old, new = [before[tag] for tag in top], [after.get(tag, 0) for tag in top]
    return psi([*old, sum(before.values()) - sum(old)], [*new, sum(after.values()) - sum(new)])


def _psi_by_name(before: Mapping[str, int], after: Mapping[str, int]) -> float:
    names = sorted({*before, *after})
    return psi([before.get(name, 0) for name in names], [after.get(name, 0) for name in names])
