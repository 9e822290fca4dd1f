"""The work logs of an annotator in, what its annotations took out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip.data.dataset import DatasetShard
from hqclip.data.sidecar import read_tally
from hqclip.report.refinement import Cost
from hqclip.store import Store
from hqclip.store.documents import number_in, read_json_or_warn


def work_cost(store: Store, annotator: str, shards: Sequence[DatasetShard] = ()) -> Cost | None:
    """The work logs of an annotator added up; without any, the tokens that its sidecars of `shards` name.

    Shares are means over seconds. A damaged log is left out with a warning.
    """
    folder = f"annotations/{annotator}"
    keys = [key for key in store.list(f"{folder}/work/") if key.endswith(".json")]
    logs = [log for key in keys if (log := read_json_or_warn(store, key, "curate")) is not None]
    if not logs:
        return _token_cost(store, folder, annotator, shards)
    images, seconds, gpu_seconds = (_sum(logs, name) for name in ("images", "seconds", "gpu_seconds"))
    return Cost(
        images=int(images),
        prompt_tokens=int(_sum(logs, "prompt_tokens")),
        cached_tokens=int(_sum(logs, "cached_tokens")),
        output_tokens=int(_sum(logs, "output_tokens")),
        gpu_seconds=gpu_seconds or None,
        gpus=max(int(number_in(log, "num_gpus")) for log in logs),
        device=", ".join(sorted({str(log["device"]) for log in logs if log.get("device")})),
        images_per_second=images / seconds if seconds else None,
        window_full_share=_mean_share(logs, "window_full_share"),
        gpu_busy_share=_mean_share(logs, "gpu_busy_share"),
    )


def _sum(logs: Sequence[Mapping[str, Any]], name: str) -> float:
    return sum(number_in(log, name) for log in logs)


def _mean_share(logs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    known = [(number_in(log, name), number_in(log, "seconds")) for log in logs if log.get(name) is not None]
    seconds = sum(weight for _, weight in known)
    return sum(share * weight for share, weight in known) / seconds if seconds else None


def _token_cost(store: Store, folder: str, annotator: str, shards: Sequence[DatasetShard]) -> Cost | None:
    keys = [f"{folder}/{shard.entry.name}.parquet" for shard in shards]
    tallies = [read_tally(store, key, annotator) for key in keys if store.exists(key)]
    if not tallies:
        return None
    return Cost(
        images=sum(tally.rows for tally in tallies),
        prompt_tokens=sum(tally.prompt_tokens for tally in tallies),
        output_tokens=sum(tally.output_tokens for tally in tallies),
    )
