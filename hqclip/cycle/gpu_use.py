"""What the tasks of a cycle said in, what each took of GPUs out; nothing of those that had none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip.report import GpuUse
from hqclip.store.documents import number_in

UNITS = {"train": "samples", "annotate": "images", "evaluate": "images", "score": "images"}
GROWS = ("gpu_seconds", "images", "restarts")  # in the work log of an annotator, from cycle to cycle


def gpu_use(notes: Mapping[str, Mapping[str, Any]], before: Mapping[str, Any]) -> tuple[GpuUse, ...]:
    """A row for each task whose result says how long GPUs worked for it.

    `before` is what the work log of the annotator, which goes on, had come to in earlier cycles; empty for none.
    """
    rows = []
    for task, note in notes.items():
        work = note.get("work")
        if isinstance(work, Mapping) and task == "annotate":
            work = {**work, **{name: max(number_in(work, name) - number_in(before, name), 0) for name in GROWS}}
        if isinstance(work, Mapping) and number_in(work, "gpu_seconds"):
            rows.append(_row(task, note, work))
    return tuple(rows)


def _row(task: str, note: Mapping[str, Any], work: Mapping[str, Any]) -> GpuUse:
    gpu_seconds = number_in(work, "gpu_seconds")
    an_hour = number_in(work, "samples_per_gpu_hour") or number_in(work, "images") / gpu_seconds * 3600
    lost = number_in(work, "lost_seconds") * number_in(work, "num_gpus") if "lost_seconds" in work else None
    return GpuUse(
        task=task,
        gpu_seconds=gpu_seconds,
        busy_share=number_in(work, "gpu_busy_share") if "gpu_busy_share" in work else None,
        queued=_queued(note),
        restarts=int(number_in(work, "restarts")),
        lost=lost,
        an_hour=an_hour or None,
        unit=UNITS.get(task.partition("-")[0], "samples"),
    )


def _queued(note: Mapping[str, Any]) -> float | None:
    """GPU-seconds that a launched task waited for its machines; None where it was not launched or nobody says."""
    launch = note.get("launch")
    if not isinstance(launch, Mapping) or not {"queued_seconds", "nodes", "gpus"} <= launch.keys():
        return None
    return number_in(launch, "queued_seconds") * number_in(launch, "nodes") * number_in(launch, "gpus")
