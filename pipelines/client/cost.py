"""`python -m pipelines cost`: what a cycle will take, said before anything is launched.

The pace comes from what the store has seen: a pilot, or the records of an earlier cycle with the same models. A stage
that nothing is known of is `unknown`, never guessed. Prices are a table of yours, or figures to plan with.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hqclip.annotate.worklog import total_work
from hqclip.config import AnnotateConfig, PlanConfig
from hqclip.cycle.plan import newest_cycle, plan_key, resolve
from hqclip.data.sources import list_shards
from hqclip.errors import ConfigError
from hqclip.launch.profiles import read_profiles
from hqclip.launch.resolve import plan_machines
from hqclip.presets import PRESETS
from hqclip.records import CyclePlan, Pool, ShardEntry
from hqclip.stages import LAUNCHABLE
from hqclip.store import Store, open_store
from pipelines.client import output
from pipelines.client.output import say, show

CHEAPER, DEARER = 0.7, 1.5  # a price to plan with stands for this range: long reservations to small clouds on demand
_PRICE = re.compile(r"(?P<word>\w+)=(?P<low>\d+(\.\d+)?)(-(?P<high>\d+(\.\d+)?))?", re.ASCII).fullmatch
_HOURS = re.compile(rf"(?P<stage>{'|'.join(LAUNCHABLE)})=(?P<hours>\d+(\.\d+)?)", re.ASCII).fullmatch


@dataclass(frozen=True)
class Price:
    """USD of a GPU-hour, from `low` to `high`, of devices whose name has `word`."""

    word: str
    low: float
    high: float


@dataclass(frozen=True)
class Pace:
    """GPU-seconds that so many images, samples or models took, and what is known of them."""

    amount: float
    gpu_seconds: float
    basis: str
    device: str = ""
    tokens: int = 0


@dataclass(frozen=True)
class Work:
    """What a stage has to do; `amount` is None if nobody can tell."""

    stage: str
    amount: int | None
    unit: str
    about: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument("--store", required=True, help="root of the store: gs://bucket/prefix or a folder")
    parser.add_argument("--shards", required=True, help="shards to refine, as for the pipeline's download_shards")
    parser.add_argument("--preset", default="small", choices=PRESETS, help="named settings of all stages (small)")
    parser.add_argument("--trials", default="hqclip", help="training runs, comma separated recipes (hqclip)")
    parser.add_argument("--overrides", default="{}", metavar="JSON", help="further settings, as for plan_overrides")
    parser.add_argument("--images", type=int, metavar="N", help="images in the shards, if the store cannot know")
    parser.add_argument("--launch", default="", metavar="FILE", help="machines, as for plan_launch")
    parser.add_argument(
        "--gpu-prices", default="", metavar="TABLE", help="USD per GPU-hour by device, e.g. H100=2.5-4.0,L4=0.7"
    )
    parser.add_argument(
        "--gpu-hours", action="append", default=[], metavar="STAGE=HOURS", help="what you know of a stage yourself"
    )
    parser.add_argument("--max-cost", type=float, metavar="USD", help="exit 64 if it may cost more, or nobody can tell")
    output.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Print the estimate. Raises `ConfigError` (64) if it may exceed `--max-cost`."""
    rows = estimate(given)
    show(rows, given.output)
    for note in _notes(given, rows):
        say(note)
    if given.max_cost is not None:
        check_budget(rows, given.max_cost)
    return 0


def estimate(given: argparse.Namespace) -> list[dict[str, Any]]:
    """A row a stage, and one for all: amount, tokens, GPU-hours, hours, dollars from low to high, and the basis."""
    if given.images is not None and given.images < 0:
        raise ConfigError(f"--images is {given.images}; give 0 or more")
    config = PlanConfig(
        store=given.store,
        shards=given.shards,
        suite="-",
        preset=given.preset,
        trials=tuple(trial.strip() for trial in given.trials.split(",") if trial.strip()),
        overrides=given.overrides,
    )
    settings, trials = resolve(config)
    stores = {stage: {**values, "store": given.store} for stage, values in settings.items()}
    machines = plan_machines(given.launch, stores) if given.launch else {}
    prices, stated = read_prices(given.gpu_prices), read_hours(given.gpu_hours)
    store = open_store(given.store)
    past = Past(store, settings)
    rows = []
    for work in _work(given, settings, len(trials), past):
        pace = past.pace(work.stage)
        if work.stage in stated:
            pace = Pace(
                float(work.amount or 1),
                3600 * stated[work.stage],
                "as you say",
                pace.device if pace.gpu_seconds else "",
            )
            work = Work(work.stage, work.amount or 1, work.unit, work.about)
        rows.append(_row(work, pace, machines.get(work.stage, {}), prices))
    return [*rows, _total(rows)]


def check_budget(rows: Sequence[Mapping[str, Any]], limit: float) -> None:
    """Raises `ConfigError` with the figures if it may cost more than `limit` dollars, or if that cannot be told."""
    *stages, total = rows
    unknown = [row["stage"] for row in stages if row["usd_high"] is None]
    if unknown:
        raise ConfigError(
            f"--max-cost {limit:g}: nothing is known of {', '.join(unknown)}; run `hqclip annotate pilot` or a small "
            "cycle first, or say what you know with --gpu-hours STAGE=HOURS"
        )
    if total["usd_high"] > limit:
        parts = ", ".join(f"{row['stage']} {row['usd_low']:.2f}-{row['usd_high']:.2f}" for row in stages)
        raise ConfigError(
            f"it may cost ${total['usd_low']:.2f} to ${total['usd_high']:.2f} ({parts}), more than --max-cost {limit:g}"
        )


def read_prices(text: str) -> list[Price]:
    """`H100=2.5-4.0,L4=0.7`; without any, the figures to plan with, widened. Raises `ConfigError`."""
    if not text:
        planned = (entry.partition("=") for entry in _default_prices())
        return [Price(word, CHEAPER * float(usd), DEARER * float(usd)) for word, _, usd in planned]
    prices = []
    for entry in filter(None, (part.strip() for part in text.split(","))):
        match = _PRICE(entry)
        if match is None or float(match["high"] or match["low"]) < float(match["low"]):
            raise ConfigError(f"--gpu-prices: {entry!r} is not like H100=2.5-4.0")
        prices.append(Price(match["word"], float(match["low"]), float(match["high"] or match["low"])))
    return prices


def read_hours(assignments: Sequence[str]) -> dict[str, float]:
    """`train=40` and the like. Raises `ConfigError`."""
    matches = {text: _HOURS(text) for text in assignments}
    bad = [text for text, match in matches.items() if match is None]
    if bad:
        raise ConfigError(f"--gpu-hours: {bad[0]!r} is not like train=40; the stages are {', '.join(LAUNCHABLE)}")
    return {match["stage"]: float(match["hours"]) for match in matches.values() if match}


class Past:
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
                seconds += self._gpu_seconds(result)
                amount += self._amount(stage, result)
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
            prefix, key = f"cycles/{cycle:06d}.stages/", plan_key(cycle)
            names = {key.removeprefix(prefix).removesuffix(".json"): key for key in self._store.list(prefix)}
            if any(name.startswith("train") for name in names) and self._store.exists(key):
                results = {name: dict(json.loads(self._store.read(where))) for name, where in names.items()}
                return cycle, CyclePlan.from_json(self._store.read(key), key).settings, results
        return 0, {}, {}

    def _annotation(self) -> Pace:
        """The pilot or the cycle that saw more images."""
        found = [*self._pilots()]
        work = self._results.get("annotate", {}).get("work")
        if work and self._is_same_annotator(self._plan):
            found.append((f"cycle {self.cycle}", work))
        if not found:
            return Pace(0, 0, f"unknown: no pilot and no cycle with {self._settings['annotate']['model']} yet")
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
            if match and self._is_same_annotator({"annotate": json.loads(self._store.read(key))}):
                work = total_work(open_store(f"{self._store.uri}/{match[1]}"), match[2])
                if work["images"]:
                    yield "a pilot", work

    def _is_same_annotator(self, settings: Mapping[str, Mapping[str, Any]]) -> bool:
        names = ("model", "prompt", "engine")
        then, now = settings.get("annotate", {}), self._settings["annotate"]
        return all(then.get(name) == now[name] for name in names)

    def _gpu_seconds(self, result: Mapping[str, Any]) -> float:
        """Of one task: those of its job on many machines, else its own with one GPU."""
        launch = result.get("launch")
        if not launch:
            return float(result["seconds"])
        job = json.loads(self._store.read(f"launch/{launch['key']}/job.json"))
        return float(launch["node_hours"]) * 3600 * int(job["nproc"])

    def _amount(self, stage: str, result: Mapping[str, Any]) -> float:
        if stage == "train":
            return float(result["samples_seen"])
        if stage == "evaluate":
            return 1.0
        rows = float(self._results.get("annotate", {}).get("rows", 0))
        shards = int(result["num_shards"])
        return rows * (shards - int(result["already_done"])) / shards if shards else 0.0


def _work(
    given: argparse.Namespace, settings: Mapping[str, Mapping[str, Any]], num_points: int, past: Past
) -> list[Work]:
    """What each stage has to do."""
    images, about, done = _images(given, past)
    left = None if images is None else images - done
    already = f"{done:,} annotated already" if done else ""
    scored = images if open_store(given.store).exists("champion.json") else 0
    samples = int(settings["train"]["samples_seen"]) * num_points
    return [
        Work("annotate", left, "images", "; ".join(filter(None, [already, about]))),
        Work("score", scored, "images", about if scored or scored is None else "no champion yet"),
        Work("train", samples, "samples"),
        Work("evaluate", num_points, "models"),
    ]


def _images(given: argparse.Namespace, past: Past) -> tuple[int | None, str, int]:
    """How many there are, how that is known, and how many are annotated already.

    Shards that a pool of the store has are counted; the others are as dense as these.
    """
    if given.images is not None:
        return given.images, "", 0
    store = open_store(given.store)
    pools = [key for key in store.list("pools/") if re.fullmatch(r"pools/\w+\.json", key)]
    entries = [entry for key in pools for entry in Pool.from_json(store.read(key), key).shards]
    known = {(entry.size, entry.crc32c): entry for entry in entries}
    rows = sum(entry.rows for entry in known.values())
    if not rows:
        return None, "give --images: the store has no pool to count by", 0
    contents = [(shard.size, shard.identity) for _, shard in list_shards(given.shards)]
    counted = [known[content] for content in contents if content in known]
    new = [size for size, crc32c in contents if (size, crc32c) not in known]
    guessed = round(sum(new) * rows / sum(entry.size for entry in known.values()))
    about = f"{guessed:,} images by the size of the shards" if new else ""
    return sum(entry.rows for entry in counted) + guessed, about, past.annotated(counted)


def _row(work: Work, pace: Pace, machine: Mapping[str, Any], prices: Sequence[Price]) -> dict[str, Any]:
    scale = work.amount / pace.amount if pace.amount and work.amount is not None else None
    hours = scale * pace.gpu_seconds / 3600 if scale is not None and pace.gpu_seconds else None
    if work.amount == 0:
        hours, scale = 0.0, 0.0
    gpus = int(machine.get("nodes", 1)) * max(1, int(machine.get("gpus", 1)))
    low, high = _price(_device(machine) or pace.device, prices)
    return {
        "stage": work.stage,
        "amount": work.amount,
        "unit": work.unit,
        "tokens": round(scale * pace.tokens) if scale is not None and pace.tokens else None,
        "gpu_hours": round(hours, 3) if hours is not None else None,
        "hours": round(hours / gpus, 3) if hours is not None else None,
        "usd_low": _dollars(hours, low),
        "usd_high": _dollars(hours, high),
        "basis": "; ".join(filter(None, ["nothing to do" if work.amount == 0 else pace.basis, work.about])),
    }


def _dollars(hours: float | None, price: float | None) -> float | None:
    if hours == 0:
        return 0.0
    return None if hours is None or price is None else round(hours * price, 2)


def _total(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is known, added up."""
    unknown = [row["stage"] for row in rows if row["usd_high"] is None]
    sums = {
        name: round(sum(row[name] for row in rows if row[name] is not None), 3)
        for name in ("tokens", "gpu_hours", "hours", "usd_low", "usd_high")
    }
    if unknown and not sums["gpu_hours"]:
        sums = dict.fromkeys(sums)  # nothing known is not nothing to pay
    basis = f"without {', '.join(unknown)}" if unknown else ""
    return {"stage": "all", "amount": None, "unit": "", **sums, "basis": basis}


def _device(machine: Mapping[str, Any]) -> str:
    """Words that tell the device of a launch spec."""
    about = str(read_profiles()["profiles"].get(machine.get("profile", ""), {}).get("about", ""))
    return " ".join([about, *machine.get("node_selector", ())])


def _price(device: str, prices: Sequence[Price]) -> tuple[float | None, float | None]:
    """Low and high of the device's price; those of the whole table where the device is not known."""
    words = {word.lower() for word in re.findall(r"\w+", device.replace("_", " "))}
    fitting = [price for price in prices if price.word.lower() in words][:1]
    if not fitting and not words:
        fitting = list(prices)
    return min((p.low for p in fitting), default=None), max((p.high for p in fitting), default=None)


def _default_prices() -> tuple[str, ...]:
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(AnnotateConfig)}
    return tuple(defaults["gpu_prices"])


def _notes(given: argparse.Namespace, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a reader of the figures must know."""
    if not given.gpu_prices:
        table = ", ".join(f"{price.word} ${price.low:.2f}-{price.high:.2f}" for price in read_prices(""))
        yield f"prices are figures to plan with ({table} a GPU-hour); give yours with --gpu-prices H100=2.5-4.0"
    if any(row["gpu_hours"] is not None and row["usd_high"] is None for row in rows):
        yield "the table has no price for some of these GPUs; give it with --gpu-prices"
    if rows[-1]["basis"]:
        yield f"the sum is {rows[-1]['basis']}: run `hqclip annotate pilot` or a small cycle to know more"
