"""Suites that the field uses, as lists of the names of benchmarks, and what of one is missing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from hqclip.errors import ConfigError
from hqclip.evaluate.datacomp import TASKS
from hqclip.settings import did_you_mean

SUITES: Mapping[str, Sequence[str]] = {
    "quick": ("imagenet", "coco", "sugarcrepe"),
    "datacomp38": tuple(task.name for task in TASKS),
    "retrieval": ("flickr30k", "coco", "urban1k"),
    "finegrained": ("sugarcrepe", "vg_relation", "vg_attribution", "winoground", "valse", "mmvp"),
}


def missing(suite: str, there: Collection[str]) -> list[str]:
    """What a suite has beyond these names, in its order. Raises `ConfigError` if there is no such suite."""
    if suite not in SUITES:
        raise ConfigError(
            f"there is no suite {suite!r}{did_you_mean(suite, SUITES)}; known suites: {', '.join(SUITES)}"
        )
    return [name for name in SUITES[suite] if name not in there]
