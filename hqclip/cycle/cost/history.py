"""What a store has seen in, the pace of each stage out: by a pilot, or by an earlier cycle with the same models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hqclip import log
from hqclip.annotate.total_work import total_work
from hqclip.cycle.keys import newest_cycle, plan_key
from hqclip.cycle.notes import read_notes
from hqclip.errors import HQClipError
from hqclip.records import CyclePlan, ShardEntry
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json, read_json_or_warn

WORK = {"images", "prompt_tokens", "output_tokens", "gpu_seconds", "devices"}  # what a total of work logs has


@dataclass(frozen=True)
class Pace:
    """GPU-seconds that so many images, samples or models took, and what is known of them."""

    amount: float
    gpu_seconds: float
    basis: str
    device: str = ""
    tokens: int = 0


class History:
    """What the store has seen of stages with the same models as these `settings`."""

    def __init__(self, store: Store, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._store, self._settings = store, settings
        self.cycle, self._plan, self._results = self._last()
        work = self._results.get("annotate", {}).get("work", {})
        self.device = ", ".join(work.get("devices", []))
        self.is_on_cpu = self.device == "cpu"

    def pace(self, stage: str) -> Pace:
        """How fast a stage was; `gpu_seconds` 0 where that is not known, and `basis` then says why."""
        if stage == "annotate":
            return self._annotation()
        if not self.cycle:
            return Pace(0, 0, "unknown: no cycle of this store has trained yet")
        if self.is_on_cpu:
            return Pace(0, 0, f"unknown: cycle {self.cycle} ran without a GPU")
        then, now = (settings["train"]["model"] for settings in (self._plan, self._settings))
        if then != now:
            return Pace(0, 0, f"unknown: cycle {self.cycle} trained {then}, not {now}")
        seconds, amount = 0.0, 0.0
        for name, result in self._results.items():
            if name.partition("-")[0] == stage and "seconds" in result:
                try:
                    worked, did = self._gpu_seconds(result), self._amount(stage, result)
                except (KeyError, TypeError, ValueError, HQClipError) as error:
                    log.warning(
                        "cost", f"what {name} of cycle {self.cycle} said is damaged ({error!r}); it is left out"
                    )
                    continue
                seconds, amount = seconds + worked, amount + did
        if not seconds or not amount:
            return Pace(0, 0, f"unknown: cycle {self.cycle} has no {stage} that worked")
        return Pace(amount, seconds, f"cycle {self.cycle}", self.device)

    def annotated(self, shards: Iterable[ShardEntry]) -> int:
        """Images of these shards that have their texts already, by the annotator that the settings name."""
        if not self._is_same_annotator(self._plan):
            return 0
        folder = self._results.get("annotate", {}).get("annotations", "")
        return sum(entry.rows for entry in shards if folder and self._has_sidecar(folder, entry))

    def _has_sidecar(self, folder: str, entry: ShardEntry) -> bool:
        return self._store.exists(f"{folder}/{entry.name}.parquet")

    def _last(self) -> tuple[int, dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """The newest cycle in which something was trained: number, settings and results by task."""
        for cycle in range(newest_cycle(self._store), 0, -1):
            key, results = plan_key(cycle), read_notes(self._store, cycle)
            if any(name.startswith("train") for name in results) and self._store.exists(key):
                return cycle, CyclePlan.from_json(self._store.read(key), key).settings, results
        return 0, {}, {}

    def _annotation(self) -> Pace:
        """The pilot or the cycle that saw more images."""
        found = [*self._pilots()]
        work = self._results.get("annotate", {}).get("work")
        if work and work.keys() >= WORK and self._is_same_annotator(self._plan):
            found.append((f"cycle {self.cycle}", work))
        if not found:
            return Pace(
                0, 0, f"unknown: no pilot and no cycle with {_unpinned(self._settings['annotate']['model'])} yet"
            )
        basis, work = max(found, key=lambda item: item[1]["images"])
        tokens = work["prompt_tokens"] + work["output_tokens"]
        basis = f"{basis}, {work['images']:,} images"
        if not work["gpu_seconds"]:
            basis = f"unknown: {basis}, ran on {', '.join(work['devices']) or 'no GPU'}"
        return Pace(work["images"], work["gpu_seconds"], basis, ", ".join(work["devices"]), tokens)

    def _pilots(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The work of every pilot with the same LVLM and prompt."""
        for key in self._store.list("pilots/"):
            match = re.fullmatch(r"(pilots/[^/]+)/(annotations/[^/]+)/annotator\.json", key)
            annotator = read_json_or_warn(self._store, key, "cost") if match else None
            if match and annotator and self._is_same_annotator({"annotate": annotator}):
                work = total_work(open_store(f"{self._store.uri}/{match[1]}"), match[2])
                if work["images"]:
                    yield "a pilot", work

    def _is_same_annotator(self, settings: Mapping[str, Mapping[str, Any]]) -> bool:
        names = ("model", "prompt", "engine")
        then, now = settings.get("annotate", {}), self._settings["annotate"]
        return all(_unpinned(then.get(name)) == _unpinned(now[name]) for name in names)

    def _gpu_seconds(self, result: Mapping[str, Any]) -> float:
        """Of one task: those of its job on many machines, else its own with one GPU."""
        launch = result.get("launch")
        if not launch:
            return float(result["seconds"])
        job = read_json(self._store, f"launch/{launch['key']}/job.json", "it is left out")
        return float(launch["node_hours"]) * 3600 * int(job["nproc"])

    def _amount(self, stage: str, result: Mapping[str, Any]) -> float:
        if stage == "train":
            return float(result["samples_seen"])
        if stage == "evaluate":
            return 1.0
        rows = float(self._results.get("annotate", {}).get("rows", 0))
        shards = int(result["num_shards"])
        return rows * (shards - int(result["already_done"])) / shards if shards else 0.0


def _unpinned(name: Any) -> str:
    """`org/name@revision` -> `org/name`: how fast a model is does not depend on it."""
    return str(name).partition("@")[0]
