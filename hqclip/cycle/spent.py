"""What the tasks of a cycle said in, what each of them took out: seconds, GPU-seconds, dollars.

Times are of the attempt that went well. GPU-seconds are those that the stage itself tells of: of annotation and
training all that were spent for the cycle. A task that tells of none counts those of its nodes if it was launched, else
a single GPU, unless it ran on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip.cycle.keys import notes_prefix
from hqclip.cycle.prices import Price, default_prices, price_range, read_prices
from hqclip.errors import ConfigError
from hqclip.report import StageCost
from hqclip.stages import LAUNCHABLE
from hqclip.store import Store
from hqclip.store.documents import finite, number_in, read_json_or_warn

Notes = Mapping[str, Mapping[str, Any]]
LOOK_BACK = 30  # cycles, for the one before that had the same annotator
CPU = "cpu"


def spent(store: Store, notes: Notes, settings: Mapping[str, Any], before: float = 0.0) -> tuple[StageCost, ...]:
    """A row for each task that said how long it took; `settings` are those of the plan.

    `before` are the GPU-seconds that earlier cycles had spent with the same annotator, whose work log goes on.
    """
    device, prices = common_device(notes), _prices(settings)
    rows = []
    for task, note in notes.items():
        if (seconds := finite(note.get("seconds"))) is not None:
            gpu_seconds = gpu_seconds_of(store, task, note, device, before)
            named = ran_on(note, device) if gpu_seconds else ""
            rows.append(StageCost(task=task, seconds=seconds, gpu_seconds=gpu_seconds, device=named))
    return tuple(_priced(row, prices) for row in rows)


def gpu_seconds_of(
    store: Store, task: str, note: Mapping[str, Any], device: str = "", before: float = 0.0
) -> float | None:
    """What a task took of all GPUs together, 0 where it ran without one and None where nobody knows.

    `device` and `before` are as `ran_on` and `spent` have them.
    """
    stage, work = task.partition("-")[0], note.get("work")
    if stage not in LAUNCHABLE or ran_on(note, device).startswith(CPU):
        return 0.0
    if stage == "annotate":
        return max(logged(note) - before, 0.0) if logged(note) else None
    if isinstance(work, Mapping):
        return finite(work.get("gpu_seconds", 0.0))  # training without GPUs says nothing of them
    launch = note.get("launch")
    if not isinstance(launch, Mapping):
        return finite(note.get("seconds"))
    hours, gpus = finite(launch.get("node_hours")), _gpus_of_a_node(store, launch)
    return 3600 * hours * gpus if hours is not None and gpus is not None else None


def ran_on(note: Mapping[str, Any], device: str = "") -> str:
    """The name of the GPU that a task says it ran on, or `cpu`; of one that does not say, `device`, as of its cycle."""
    names = _work(note).get("devices")
    if isinstance(names, list) and names:
        return ", ".join(map(str, names))
    own = note.get("device")
    if not isinstance(own, str):
        return device
    return CPU if own.startswith(CPU) else device.removeprefix(CPU)  # a GPU, whatever the others had


def common_device(notes: Notes) -> str:
    """What tasks that do not say ran on, as far as the others of the cycle tell: that of `annotate`, or `cpu`."""
    told = [str(note["device"]) for note in notes.values() if isinstance(note.get("device"), str)]
    on_cpu = told and all(name.startswith(CPU) for name in told)
    return ran_on(notes.get("annotate", {})) or (CPU if on_cpu else "")


def work_before(store: Store, cycle: int, notes: Notes) -> Mapping[str, Any]:
    """The work log of this cycle's annotator as it was when the cycle before that used it was done; empty for none."""
    annotator = notes.get("annotate", {}).get("annotator")
    for earlier in range(cycle - 1, max(cycle - LOOK_BACK - 1, 0), -1):
        key = f"{notes_prefix(earlier)}annotate.json"
        note = (read_json_or_warn(store, key, "cost") if store.exists(key) else None) or {}
        if annotator and note.get("annotator") == annotator:
            return _work(note)
    return {}


def logged(note: Mapping[str, Any]) -> float:
    """The GPU-seconds that an annotator's work log has come to, by what `annotate` said."""
    return number_in(_work(note), "gpu_seconds")


def _work(note: Mapping[str, Any]) -> Mapping[str, Any]:
    work = note.get("work")
    return work if isinstance(work, Mapping) else {}


def _gpus_of_a_node(store: Store, launch: Mapping[str, Any]) -> float | None:
    """As the launch says; of one that does not, as many as there were processes."""
    if "gpus" in launch:
        return finite(launch["gpus"])
    return finite((read_json_or_warn(store, f"launch/{launch.get('key')}/job.json", "cost") or {}).get("nproc"))


def _prices(settings: Mapping[str, Any]) -> Sequence[Price]:
    """Those that the cycle was planned with; those that are no more than the default are to plan with, and wide."""
    table = settings.get("annotate", {}).get("gpu_prices", ())
    try:
        return read_prices(() if tuple(table) == default_prices() else tuple(table))
    except (ConfigError, TypeError):
        return read_prices()


def _priced(row: StageCost, prices: Sequence[Price]) -> StageCost:
    if not row.gpu_seconds:
        return row
    low, high = price_range(row.device, prices)
    if low is None or high is None:
        return row
    hours = row.gpu_seconds / 3600
    return StageCost(**{**vars(row), "usd": (hours * low, hours * high)})
