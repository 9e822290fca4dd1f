"""Suites that the field uses, as lists of the names of benchmarks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hqclip.evaluate.datacomp import TASKS

SUITES: Mapping[str, Sequence[str]] = {
    "quick": ("imagenet", "coco", "sugarcrepe"),
    "datacomp38": tuple(task.name for task in TASKS),
    "retrieval": ("flickr30k", "coco", "urban1k"),
    "finegrained": ("sugarcrepe", "vg_relation", "vg_attribution", "winoground", "valse", "mmvp"),
}
