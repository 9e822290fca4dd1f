"""What a store has seen in, the pace of each stage out: by a pilot, or by an earlier cycle with the same models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from hqclip import log
from hqclip.annotate.total_work import total_work
from hqclip.cycle.keys import newest_cycle, plan_key
from hqclip.cycle.notes import read_notes
from hqclip.cycle.spent import common_device, gpu_seconds_of, ran_on
from hqclip.records import CyclePlan, ShardEntry
from hqclip.store import Store, open_store
from hqclip.store.documents import read_if_there, read_json_or_warn
from hqclip.typed_json import WrongValueError, read_as


@dataclass(frozen=True)
class Pace:
    """GPU-seconds that so many images, samples or models took, and what is known of them."""

    amount: float
    gpu_seconds: float
    basis: str
    device: str = ""
    tokens: int = 0


class _Work(TypedDict):
    """What a total of work logs has."""

    images: int
    prompt_tokens: int
    output_tokens: int
    gpu_seconds: float
    devices: list[str]


WORK = _Work.__annotations__.keys()  # that of an older version had less


class History:
    """What the store has seen of stages with the same models as these `settings`."""

    def __init__(self, store: Store, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._store, self._settings = store, settings
        self.cycle, self._plan, self._results = self._last()
        self._device = common_device(self._results)

    def pace(self, stage: str) -> Pace:
        """How fast a stage was; `gpu_seconds` 0 where that is not known, and `basis` then says why."""
        if stage == "annotate":
            return self._annotation()
        if not self.cycle:
            return Pace(0, 0, "unknown: no cycle of this store has trained yet")
        seen = [*self._seen(stage)]
        if seen and not any(one.gpu_seconds for one in seen):
            return Pace(0, 0, f"unknown: cycle {self.cycle} ran without a GPU")
        then, now = (settings.get("train", {}).get("model") for settings in (self._plan, self._settings))
        if then != now:
            return Pace(0, 0, f"unknown: cycle {self.cycle} trained {then}, not {now}")
        worked = [one for one in seen if one.gpu_seconds and one.amount]
        if not worked:
            return Pace(0, 0, f"unknown: cycle {self.cycle} has no {stage} that worked")
        amount, gpu_seconds = sum(one.amount for one in worked), sum(one.gpu_seconds for one in worked)
        devices = dict.fromkeys(one.device for one in worked if one.device)
        return Pace(amount, gpu_seconds, f"cycle {self.cycle}", ", ".join(devices))

    def annotated(self, shards: Iterable[ShardEntry]) -> int:
        """Images of these shards that have their texts already, by the annotator that the settings name."""
        if not self._is_same_annotator(self._plan):
            return 0
        folder = self._results.get("annotate", {}).get("annotations", "")
        return sum(
            entry.rows for entry in shards if folder and isinstance(folder, str) and self._has_sidecar(folder, entry)
        )

    def _has_sidecar(self, folder: str, entry: ShardEntry) -> bool:
        return self._store.exists(f"{folder}/{entry.name}.parquet")

    def _last(self) -> tuple[int, dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """The newest cycle in which something was trained: number, settings and results by task."""
        for cycle in range(newest_cycle(self._store), 0, -1):
            results = read_notes(self._store, cycle)
            has_trained = any(name.startswith("train") for name in results)
            if has_trained and (plan := read_if_there(self._store, plan_key(cycle), CyclePlan)):
                return cycle, plan.settings, results
        return 0, {}, {}

    def _annotation(self) -> Pace:
        """The pilot or the cycle that saw more images."""
        found = [*self._pilots()]
        work = self._results.get("annotate", {}).get("work")
        if isinstance(work, Mapping) and work.keys() >= WORK and self._is_same_annotator(self._plan):
            try:
                found.append((f"cycle {self.cycle}", dict(read_as(_Work, work))))
            except WrongValueError as error:
                told = f"what annotate of cycle {self.cycle} said is damaged (work.{error})"
                log.warning("cost", f"{told}; it is left out")
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

    def _seen(self, stage: str) -> Iterator[Pace]:
        """Of each task of a stage; one that says nothing usable is left out with a warning."""
        for name, result in self._results.items():
            if name.partition("-")[0] != stage or "seconds" not in result:
                continue
            gpu_seconds = gpu_seconds_of(self._store, name, result, self._device)
            try:
                if gpu_seconds is None:
                    raise ValueError("no GPU time")
                amount = self._amount(stage, result)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                log.warning("cost", f"what {name} of cycle {self.cycle} said is damaged ({error!r}); it is left out")
                continue
            yield Pace(amount, gpu_seconds, f"cycle {self.cycle}", ran_on(result, self._device))

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
