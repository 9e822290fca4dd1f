"""What a cycle will cost: from a pilot, from an earlier cycle, or unknown and said so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.config import DownloadConfig, PlanConfig
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.keys import plan_key
from hqclip.data.download import run as download
from hqclip.data.shards import write_shard
from hqclip.errors import ConfigError
from hqclip.flags import Parser
from hqclip.records import CyclePlan, Sample
from hqclip.store import Store, open_store
from pipelines.client import cost
from tests.vanishing import vanishes

H100 = "NVIDIA H100 80GB HBM3"
SMALL = 12_800_000  # samples that the preset `small` trains on


@pytest.fixture
def shards(tmp_path: Path, draw_samples: Callable[..., list[Sample]]) -> str:
    """Three shards of twenty images."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for number in range(3):
        write_shard(draw_samples(20, first=100 * number), folder / f"{number:05d}.tar")
    return str(folder)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


class Cost:
    """`python -m pipelines cost`, its rows by stage."""

    def __init__(self, store: Store, shards: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.store, self.shards, self.capsys = store, shards, capsys
        self.notes = ""

    def __call__(self, *words: str, **more: str) -> dict[str, dict[str, Any]]:
        parser = Parser()
        cost.add_arguments(parser)
        flags = ["--store", self.store.uri, "--shards", more.get("shards", self.shards), "-o", "json", *words]
        assert cost.run(parser.parse_args(flags)) == 0
        out, self.notes = self.capsys.readouterr()
        return {row["stage"]: row for row in json.loads(out)}


@pytest.fixture
def ask(store: Store, shards: str, capsys: pytest.CaptureFixture[str]) -> Cost:
    return Cost(store, shards, capsys)


def work(images: int, gpu_seconds: float, device: str = H100) -> dict[str, Any]:
    tokens = {"prompt_tokens": 500 * images, "cached_tokens": 0, "output_tokens": 200 * images}
    spent = {"seconds": gpu_seconds, "gpu_seconds": gpu_seconds if device != "cpu" else 0.0}
    return {"images": images, **tokens, **spent, "requests": images, "restarts": 0, "devices": [device]}


def add_pilot(store: Store, images: int, gpu_seconds: float, **about: str) -> None:
    """A pilot as `hqclip annotate pilot` leaves it."""
    where = f"pilots/p-{images}/annotations/a"
    annotator = {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "prompt": "web-1", "engine": "vllm", **about}
    store.write(f"{where}/annotator.json", json.dumps(annotator).encode())
    log = work(images, gpu_seconds)
    log["device"] = log.pop("devices")[0]
    store.write(f"{where}/work/w/progress.json", json.dumps(log).encode())


def add_cycle(store: Store, *, preset: str = "small", device: str = H100, **results: dict[str, Any]) -> None:
    """A first cycle whose stages said this."""
    settings, trials = resolve(PlanConfig(store=store.uri, shards="s", suite="s", preset=preset))
    plan = CyclePlan(cycle=1, fingerprint="f", champion=None, settings=settings, trials=tuple(trials))
    store.write(plan_key(1), plan.to_json())
    said = {
        "annotate": {"annotations": "annotations/a", "rows": 60, "work": work(60, 120.0, device)},
        "score": {"num_shards": 3, "already_done": 0, "seconds": 6.0},
        "train-hqclip": {"samples_seen": SMALL, "seconds": 7200.0},
        "evaluate-hqclip": {"seconds": 360.0},
    }
    for name, result in {**said, **{key.replace("_", "-"): value for key, value in results.items()}}.items():
        store.write(f"cycles/000001.stages/{name}.json", json.dumps(result).encode())


def test_nothing_is_known_of_a_new_store_and_nothing_is_guessed(ask: Cost):
    rows = ask()
    assert rows["annotate"]["basis"].startswith("unknown: no pilot and no cycle with Qwen/Qwen2.5-VL-7B-Instruct yet")
    assert "give --images" in rows["annotate"]["basis"]
    assert rows["train"]["basis"] == "unknown: no cycle of this store has trained yet"
    assert (rows["train"]["amount"], rows["train"]["gpu_hours"], rows["train"]["usd_high"]) == (SMALL, None, None)
    assert (rows["score"]["amount"], rows["score"]["usd_high"]) == (0, 0.0), "there is no champion to score with"
    assert rows["all"]["basis"] == "without annotate, train, evaluate"
    assert (rows["all"]["gpu_hours"], rows["all"]["usd_high"]) == (None, None), "and is not free"
    assert "run `hqclip annotate pilot`" in ask.notes


def test_a_pilot_tells_the_cost_of_the_whole_pool(ask: Cost, store: Store):
    add_pilot(store, 200, 720.0)
    row = ask("--images", "1000000", "--gpu-prices", "L4=0.5,H100=2.5-4.0")["annotate"]
    assert row["gpu_hours"] == 1000.0
    assert (row["usd_low"], row["usd_high"]) == (2500.0, 4000.0)
    assert row["tokens"] == 700_000_000
    assert row["basis"] == "a pilot, 200 images"
    assert "figures to plan with" not in ask.notes


def test_without_a_price_table_the_figures_are_to_plan_with(ask: Cost, store: Store):
    add_pilot(store, 200, 720.0)
    row = ask("--images", "200")["annotate"]
    assert (row["usd_low"], row["usd_high"]) == (0.42, 0.9)
    assert "prices are figures to plan with (H100 $2.10-4.50 a GPU-hour)" in ask.notes


def test_a_pilot_of_another_lvlm_says_nothing(ask: Cost, store: Store):
    add_pilot(store, 200, 720.0, model="other/LVLM")
    assert ask("--images", "200")["annotate"]["gpu_hours"] is None
    overrides = json.dumps({"annotate.model": "other/LVLM"})
    assert ask("--images", "200", "--overrides", overrides)["annotate"]["gpu_hours"] == 0.2


def test_the_last_cycle_tells_of_every_stage(ask: Cost, store: Store, shards: str):
    download(DownloadConfig(store=store.uri, shards=shards))
    add_cycle(store)
    store.write("champion.json", b"{}")
    rows = ask("--trials", "raw,hqclip")
    assert (rows["annotate"]["amount"], rows["annotate"]["gpu_hours"]) == (60, 0.033)
    assert rows["annotate"]["basis"] == "cycle 1, 60 images"
    assert (rows["score"]["amount"], rows["score"]["gpu_hours"]) == (60, 0.002)
    assert (rows["train"]["amount"], rows["train"]["gpu_hours"]) == (2 * SMALL, 4.0)
    assert (rows["evaluate"]["amount"], rows["evaluate"]["gpu_hours"]) == (2, 0.2)
    assert (rows["train"]["usd_low"], rows["train"]["usd_high"]) == (8.4, 18.0)
    assert rows["all"]["gpu_hours"] == pytest.approx(4.235)
    assert rows["all"]["basis"] == ""


def test_the_larger_sample_is_believed(ask: Cost, store: Store):
    add_cycle(store)
    add_pilot(store, 200, 720.0)
    assert ask("--images", "200")["annotate"]["basis"] == "a pilot, 200 images"
    add_pilot(store, 20, 720.0)
    assert ask("--images", "200")["annotate"]["gpu_hours"] == 0.2


def test_what_is_annotated_already_costs_nothing(ask: Cost, store: Store, shards: str):
    download(DownloadConfig(store=store.uri, shards=shards))
    add_cycle(store)
    for number in range(2):
        store.write(f"annotations/a/{number:05d}.parquet", b"x")
    row = ask()["annotate"]
    assert (row["amount"], row["basis"]) == (20, "cycle 1, 60 images; 40 annotated already")
    store.write("annotations/a/00002.parquet", b"x")
    row = ask()["annotate"]
    assert (row["amount"], row["gpu_hours"], row["usd_high"]) == (0, 0.0, 0.0)
    assert row["basis"].startswith("nothing to do")


def test_new_shards_are_counted_by_their_size(
    ask: Cost, store: Store, shards: str, tmp_path: Path, draw_samples: Callable[..., list[Sample]]
):
    download(DownloadConfig(store=store.uri, shards=shards))
    (tmp_path / "new").mkdir()
    write_shard(draw_samples(40, first=1000), tmp_path / "new/00009.tar")
    row = ask(shards=str(tmp_path / "new"))["annotate"]
    assert row["amount"] == pytest.approx(40, abs=4)
    assert "images by the size of the shards" in row["basis"]


@pytest.mark.parametrize("key", ["pools/*.json", "cycles/000001.plan.json", "pilots/**/annotator.json"])
def test_what_is_deleted_while_it_reads_is_as_if_it_had_been_before(
    ask: Cost, store: Store, shards: str, monkeypatch: pytest.MonkeyPatch, key: str
):
    download(DownloadConfig(store=store.uri, shards=shards))
    add_pilot(store, 200, 720.0)
    add_cycle(store)
    (path,) = Path(store.uri).glob(key)
    with monkeypatch.context() as patch:
        vanishes(patch, path)
        meanwhile = ask()
    assert not path.exists() and meanwhile == ask()


def test_shards_that_were_counted_before_stay_counted_when_others_join_them(
    ask: Cost, store: Store, shards: str, draw_samples: Callable[..., list[Sample]]
):
    download(DownloadConfig(store=store.uri, shards=shards))
    add_cycle(store)
    for number in range(3):
        store.write(f"annotations/a/{number:05d}.parquet", b"x")
    write_shard(draw_samples(20, first=1000), Path(shards) / "00003.tar")
    row = ask()["annotate"]
    assert row["amount"] == pytest.approx(20, abs=2)
    assert "60 annotated already" in row["basis"]
    download(DownloadConfig(store=store.uri, shards=shards))
    row = ask()["annotate"]
    assert (row["amount"], row["basis"]) == (20, "cycle 1, 60 images; 60 annotated already")


def test_a_cycle_without_a_gpu_says_nothing_of_gpus(ask: Cost, store: Store):
    add_cycle(store, device="cpu")
    rows = ask("--images", "60")
    assert rows["annotate"]["basis"] == "unknown: cycle 1, 60 images, ran on cpu"
    assert rows["train"]["basis"] == "unknown: cycle 1 ran without a GPU"


def test_training_that_went_on_after_a_kill_is_estimated_by_all_its_work_on_its_own_gpus(ask: Cost, store: Store):
    told = {"seconds": 7200.0, "gpu_seconds": 72_000.0, "devices": [H100]}
    add_cycle(store, device="cpu", train_hqclip={"samples_seen": SMALL, "seconds": 720.0, "work": told})
    rows = ask("--images", "60", "--gpu-prices", "H100=2,L4=1")
    assert (rows["train"]["gpu_hours"], rows["train"]["usd_high"]) == (20.0, 40.0)
    assert rows["evaluate"]["basis"] == "unknown: cycle 1 ran without a GPU"


def test_another_model_is_not_priced_by_this_one(ask: Cost, store: Store):
    add_cycle(store)
    assert (
        ask("--preset", "large", "--images", "60")["train"]["basis"]
        == "unknown: cycle 1 trained ViT-B-32, not ViT-B-16"
    )


def test_a_job_on_many_machines_counts_all_its_gpus(ask: Cost, store: Store, tmp_path: Path):
    launch = {"key": "hqclip-train-x/1", "node_hours": 3.0}
    store.write("launch/hqclip-train-x/1/job.json", json.dumps({"nproc": 8}).encode())
    add_cycle(store, train_hqclip={"samples_seen": SMALL, "seconds": 5400.0, "launch": launch})
    row = ask("--images", "60")["train"]
    assert (row["gpu_hours"], row["hours"]) == (24.0, 24.0)
    machines = tmp_path / "machines.yaml"
    machines.write_text(
        f"scheduler: jobset\nimage: r/i:1\nvolumes: ['claim:c:{tmp_path}']\ntrain: {{nodes: 2, profile: gke-a3-mega}}\n"
    )
    row = ask("--images", "60", "--launch", str(machines), "--gpu-prices", "A100=1,H100=3")["train"]
    assert (row["gpu_hours"], row["hours"], row["usd_high"]) == (24.0, 1.5, 72.0)
    row = ask("--images", "60", "--launch", str(machines), "--gpu-prices", "A100=1")["train"]
    assert (row["gpu_hours"], row["usd_high"]) == (24.0, None)
    assert "the table has no price for some of these GPUs" in ask.notes


def test_a_budget_that_is_not_enough_stops_before_anything_starts(ask: Cost, store: Store):
    add_cycle(store)
    ask("--images", "60", "--max-cost", "100")
    with pytest.raises(
        ConfigError, match=r"it may cost \$4.48 to \$9.60 \(annotate 0.07-0.15, .*more than --max-cost 9"
    ):
        ask("--images", "60", "--max-cost", "9")


def test_hqclip_says_the_same_without_a_cluster(ask: Cost, store: Store):
    add_cycle(store)
    flags = ["cost", "--store", store.uri, "--shards", ask.shards, "--images", "60"]
    shown = ask("--images", "60", "--trials", "raw,hqclip")
    assert cli.main([*flags, "--trials", "raw,hqclip"]) == 0
    result = json.loads(ask.capsys.readouterr().out)
    assert {row["stage"]: row for row in result["stages"]} == shown
    assert result["notes"] == ask.notes.splitlines()
    assert cli.main([*flags, "--max-cost", "9"]) == 64


def test_a_limit_of_nothing_is_a_limit(ask: Cost, store: Store):
    add_cycle(store)
    with pytest.raises(ConfigError, match="more than --max-cost 0"):
        ask("--images", "60", "--max-cost", "0")
    ask.capsys.readouterr()
    assert ask("--images", "0", "--gpu-hours", "train=0")["annotate"]["basis"].startswith("nothing to do")


def test_a_budget_needs_to_know_every_stage(ask: Cost, store: Store):
    add_pilot(store, 200, 720.0)
    with pytest.raises(ConfigError, match="nothing is known of train, evaluate.*--gpu-hours STAGE=HOURS"):
        ask("--images", "60", "--max-cost", "100")
    ask.capsys.readouterr()
    rows = ask("--images", "60", "--max-cost", "100", "--gpu-hours", "train=10", "--gpu-hours", "evaluate=1")
    assert (rows["train"]["gpu_hours"], rows["train"]["basis"]) == (10.0, "as you say")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--gpu-prices", "H100"), "--gpu-prices: 'H100' is not like H100=2.5-4.0"),
        (("--gpu-prices", "H100=4-2"), "is not like"),
        (("--gpu-hours", "tarin=4"), "'tarin=4' is not like train=40"),
        (("--overrides", "{"), "overrides is not valid JSON"),
        (("--gpu-prices", "H100=1,H100=9"), "gpu_prices names 'H100' twice; give it once"),
        (("--gpu-hours", "train=1", "--gpu-hours", "train=9"), "gpu_hours names 'train' twice; give it once"),
        (("--trials", "best"), "unknown recipe 'best'"),
        (("--images", "-1"), "--images is -1; give 0 or more"),
    ],
)
def test_what_makes_no_sense_is_refused(ask: Cost, words: tuple[str, ...], complaint: str):
    with pytest.raises(ConfigError, match=complaint):
        ask("--images", "60", *words)


def test_what_the_store_takes_is_told_by_kind_with_its_price_a_month(ask: Cost, store: Store):
    add_cycle(store)
    store.write("runs/a/checkpoints/step-000000001/model.safetensors", bytes(3_000_000))
    store.write("runs/a/model/open_clip_model.safetensors", bytes(1_000_000))
    flags = ["cost", "--store", store.uri, "--shards", ask.shards, "--images", "60"]
    assert cli.main([*flags, "--storage-price", "1000"]) == 0
    first, second, *_, last = json.loads(ask.capsys.readouterr().out)["storage"]
    assert first == {"kind": "checkpoints", "objects": 1, "bytes": 3_000_000, "usd_month": 3.0}
    assert (second["kind"], second["bytes"] // 1_000_000, second["usd_month"]) == ("runs", 1, 1.0)
    keys = list(store.list())
    assert (last["kind"], last["objects"], last["bytes"]) == ("all", len(keys), sum(len(store.read(k)) for k in keys))
    assert cli.main(flags) == 0
    assert "storage" not in json.loads(ask.capsys.readouterr().out), "it is listed only for those who ask"
    ask("--images", "60", "--storage-price", "1000")
    assert "stored checkpoints: 0.003 GB in 1 objects, $3.00 a month" in ask.notes
