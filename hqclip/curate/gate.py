"""A data set version and its limits in, what is over them out; and the end of the stage if that is too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from hqclip.config import CurateConfig
from hqclip.curate.rules import exceeded
from hqclip.errors import DataError
from hqclip.records import DatasetVersion


@dataclass(frozen=True)
class Checked:
    """What was held against a version: limits by rule or status, drift from the parent by name, and what is over."""

    allowed: Mapping[str, float]
    drift: Mapping[str, float]
    over: Mapping[str, float]


def check(
    version: DatasetVersion, allowed: Mapping[str, float], drift: Mapping[str, float], max_drift: float = 0.0
) -> Checked:
    """Rules and statuses over their limits by their share, and distributions that moved by more than `max_drift`.

    Without a limit are names that an older version counted and nobody knows now; 0 is no limit of the drift.
    """
    counts = {name: count for name, count in {**version.flags, **version.counts}.items() if name in allowed}
    moved = {f"drift {name}": value for name, value in drift.items() if 0 < max_drift < value}
    return Checked(allowed, drift, {**exceeded(counts, version.rows, allowed), **moved})


def enforce(config: CurateConfig, version: DatasetVersion, checked: Checked, page: str) -> None:
    """Raises `DataError` if what is over its limit, or unusable, is too much; the page about it is written by then."""
    unusable = version.rows - version.usable_rows
    if unusable > config.max_drop_rate * version.rows:
        raise DataError(
            f"{unusable} of {version.rows} samples are unusable, more than {config.max_drop_rate:.1%} (flags: "
            f"{dict(Counter(version.flags).most_common(3))}); look at {page}, or allow more with --max-drop-rate"
        )
    if config.gate == "fail" and checked.over:
        raise DataError(_complaint(config, version, checked, page))


def _complaint(config: CurateConfig, version: DatasetVersion, checked: Checked, page: str) -> str:
    """A line for everything that is over, and how to go on."""
    counts, allowed = {**version.flags, **version.counts}, checked.allowed
    shares = {name: share for name, share in checked.over.items() if name in allowed}
    lines = [
        f"{name}: {counts[name]} of {version.rows} samples ({share:.1%}), more than its limit {allowed[name]:.1%}"
        for name, share in shares.items()
    ]
    moved = {name: value for name, value in checked.over.items() if name not in shares}
    lines += [f"{name}: {value:.3f} against the parent, more than {config.max_drift}" for name, value in moved.items()]
    kept = [item for item in config.limits if item.partition("=")[0] not in shares]  # each name once
    own = ",".join([*kept, *(f"{name}={min(1.0, share + 0.01):.2f}" for name, share in shares.items())])
    ways = [f"--limits {own}"] if shares else []
    ways += ["a larger --max-drift"] if moved else []
    lines.append(f"look at {page}; allow more with {' and '.join(ways)}, or go on with --gate warn")
    return "\n".join(lines)
