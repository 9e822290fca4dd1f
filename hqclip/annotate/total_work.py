"""The work logs of all processes of an annotator in, what they took together out: the cost of its texts."""

from __future__ import annotations

from typing import Any

from hqclip.store import Store
from hqclip.store.documents import number_in, read_json_or_warn


def total_work(store: Store, annotations: str) -> dict[str, Any]:
    """The work logs of an annotator, added up; a damaged one is left out with a warning."""
    keys = [key for key in store.list(f"{annotations}/work/") if key.endswith("/progress.json")]
    logs = [log for key in keys if (log := read_json_or_warn(store, key, "annotate")) is not None]
    summed = ("requests", "prompt_tokens", "cached_tokens", "output_tokens", "restarts", "seconds", "gpu_seconds")
    told = [log for log in logs if log.get("gpu_busy_share") is not None and number_in(log, "seconds")]
    busy = sum(number_in(log, "gpu_busy_share") * number_in(log, "seconds") for log in told)
    return {
        **{name: sum(number_in(log, name) for log in logs) for name in ("images", *summed)},
        "processes": len(logs),
        "devices": sorted({str(log["device"]) for log in logs if log.get("device")}),
        **({"gpu_busy_share": busy / sum(number_in(log, "seconds") for log in told)} if told else {}),
    }
