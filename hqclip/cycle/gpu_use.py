"""What the tasks of a cycle said in, what each took of GPUs out; nothing of those that had none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip.report import GpuUse
from hqclip.store import Store
from hqclip.store.documents import number_in, read_json_or_warn

UNITS = {"train": "samples", "annotate": "images", "evaluate": "images", "score": "images"}


def gpu_use(store: Store, notes: Mapping[str, Mapping[str, Any]]) -> tuple[GpuUse, ...]:
    """A row for each task whose result says how long GPUs worked for it."""
    rows = []
    for task, note in notes.items():
        work = note.get("work")
        if isinstance(work, Mapping) and number_in(work, "gpu_seconds"):
            rows.append(_row(store, task, note, work))
    return tuple(rows)


def _row(store: Store, task: str, note: Mapping[str, Any], work: Mapping[str, Any]) -> GpuUse:
    gpu_seconds = number_in(work, "gpu_seconds")
    an_hour = number_in(work, "samples_per_gpu_hour") or number_in(work, "images") / gpu_seconds * 3600
    lost = number_in(work, "lost_seconds") * number_in(work, "num_gpus") if "lost_seconds" in work else None
    return GpuUse(
        task=task,
        gpu_seconds=gpu_seconds,
        busy_share=number_in(work, "gpu_busy_share") if "gpu_busy_share" in work else None,
        queued=_queued(store, note),
        restarts=int(number_in(work, "restarts")),
        lost=lost,
        an_hour=an_hour or None,
        unit=UNITS.get(task.partition("-")[0], "samples"),
    )


def _queued(store: Store, note: Mapping[str, Any]) -> float | None:
    """GPU-seconds that a launched task waited for its machines; None where it was not launched."""
    launch = note.get("launch")
    if not isinstance(launch, Mapping) or "queued_seconds" not in launch:
        return None
    job = read_json_or_warn(store, f"launch/{launch.get('key')}/job.json", "cost") or {}
    return number_in(launch, "queued_seconds") * number_in(job, "nodes") * number_in(job, "nproc")
