"""A cycle or sweep that may exceed its budget is refused with the figures, before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig, DownloadConfig, PlanConfig, SweepConfig
from hqclip.cycle import sweep
from hqclip.cycle.cycle_settings import resolve
from hqclip.cycle.plan import run as plan
from hqclip.data.download import run as download
from hqclip.data.sources.protocol import RemoteShard
from hqclip.data.sources.stores import StoreSource
from hqclip.demo.world import make_world
from hqclip.errors import BudgetError, ConfigError, DataError
from hqclip.store import Store, open_store
from tests.spending import HOUR, spend
from tests.sweeping import write_version
from tests.test_cost import add_cycle, add_pilot, work

RUN = "0f6a2c31"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))


def planned(store: Store, world: dict[str, Any], **more: Any) -> dict[str, Any]:
    given = {"shards": world["shards"], "suite": world["suite"], "preset": "demo-quick", **more}
    return plan(PlanConfig.from_mapping({"store": store.uri, **given}))


def test_a_cycle_whose_estimate_exceeds_its_budget_is_refused_with_the_figures(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")  # judging a model took six minutes of a GPU
    before = set(store.list())
    with pytest.raises(BudgetError) as refusal:
        planned(store, world, budget=0.05)
    said = str(refusal.value)
    assert said.startswith("cycle 2: 0.101 GPU-hours are more than its budget of 0.05: it has taken 0 GPU-hours")
    assert "evaluate 0.1 (cycle 1)" in said and "annotate unknown (cycle 1" in said
    assert "Lower shards or trials or train.samples_seen, or give a larger budget; nothing was begun" in said
    assert refusal.value.exit_code == 76
    assert set(store.list()) == before


def test_a_budget_in_dollars_is_held_against_the_price_table(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")
    with pytest.raises(BudgetError, match=r"cycle 2: \$0\.30 is more than its budget of \$0\.25"):
        planned(store, world, budget_dollars=0.25)
    assert planned(store, world, budget_dollars=0.25, gpu_prices="H100=1.5-2.0")["has_work"]
    with pytest.raises(BudgetError, match=r"\$0\.30 is more"):
        planned(store, world, budget_dollars=0.25, overrides='{"annotate.gpu_prices": "H100=3.0"}')


def test_what_nothing_is_known_of_is_not_refused_but_said(store: Store, world: dict[str, Any]):
    opened = planned(store, world, budget=0.05)
    assert opened["has_work"] and opened["budget"]["gpu_hours"] == 0.05
    assert (
        "of its budget of 0.05 GPU-hours it has taken 0 GPU-hours, and what is left is estimated at 0 without "
        "annotate, train, evaluate, of which nothing is known: what is measured decides"
    ) in opened["reason"]


def test_what_was_spent_counts_and_what_is_done_is_not_estimated_again(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")
    opened = planned(store, world)
    spend(store, opened["notes"], RUN, "annotate", hours=2.0)
    with pytest.raises(BudgetError, match=r"2\.101 GPU-hours are more than its budget of 2\.05.*\(annotate 2\)"):
        planned(store, world, budget=2.05)
    for task in ("annotate", "train-hqclip", "evaluate-hqclip"):
        store.write(f"{opened['notes']}{task}.json", b"{}")
    assert planned(store, world, budget=1.0)["has_work"], "what is left wants no GPU"


def test_a_training_that_was_stopped_in_its_midst_counts_once(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick", train_hqclip={"samples_seen": 3200, "seconds": 3600.0})
    whole = read_hours(planned(store, world, budget=100.0)["reason"])
    assert whole > 1.0
    notes = planned(store, world)["notes"]
    spend(store, notes, RUN, "train", hours=0.9, ended=None, exit_code=None, seen=1000.0 + 0.9 * HOUR)
    assert read_hours(planned(store, world, budget=whole + 0.1)["reason"]) == pytest.approx(whole - 0.9, abs=0.01)
    with pytest.raises(BudgetError, match=r"it has taken 0\.9 GPU-hours \(train 0\.9\), and what is .* train 0\.1 \("):
        planned(store, world, budget=whole - 0.05)
    spend(store, notes, "another", "train", hours=2.0)
    with pytest.raises(BudgetError, match=r"and what is left is estimated so, in GPU-hours: .*train 0 \("):
        planned(store, world, budget=2.9)


def test_annotating_that_was_stopped_in_the_first_cycle_counts_once(store: Store, world: dict[str, Any]):
    download(DownloadConfig(store=store.uri, shards=world["shards"]))
    annotate = resolve(PlanConfig(store=store.uri, shards="s", suite="s", preset="demo-quick"))[0]["annotate"]
    add_pilot(store, 12, HOUR, **{name: annotate[name] for name in ("model", "prompt", "engine")})
    opened = planned(store, world, budget=100.0)
    assert read_hours(opened["reason"]) == 1.0
    spend(store, opened["notes"], RUN, "annotate", hours=0.9)
    assert planned(store, world, budget=1.05)["has_work"]


def test_of_annotating_only_what_no_cycle_has_done_counts(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick", annotate={"annotations": "annotations/a", "rows": 12, "work": work(12, HOUR)})
    download(DownloadConfig(store=store.uri, shards=world["shards"]))
    store.write("annotations/a/00000.parquet", b"done")
    assert "annotate" not in planned(store, world, budget=0.2)["reason"]


def test_the_shards_are_listed_once(store: Store, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    def listed(source: StoreSource, pattern: str) -> Iterator[RemoteShard]:
        asked.append(pattern)
        return listing(source, pattern)

    download(DownloadConfig(store=store.uri, shards=world["shards"]))
    listing, asked = StoreSource.list, list[str]()
    monkeypatch.setattr(StoreSource, "list", listed)
    assert planned(store, world, budget=1.0)["has_work"]
    assert asked == [world["shards"]]


def test_where_the_images_are_done_no_pool_is_read_to_count_them(store: Store, world: dict[str, Any]):
    notes = planned(store, world)["notes"]
    store.write("pools/ab12.json", b"damaged")
    with pytest.raises(DataError):
        planned(store, world, budget=1.0)
    for task in ("annotate", "score"):
        store.write(f"{notes}{task}.json", b"{}")
    assert planned(store, world, budget=1.0)["has_work"]


def read_hours(reason: str) -> float:
    """What is left, as a plan estimates it."""
    return float(reason.partition("what is left is estimated at ")[2].split()[0])


def test_a_run_that_comes_while_another_works_is_kept_out_whatever_its_budget(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")
    assert planned(store, world, owner="monday")["has_work"]
    second = planned(store, world, owner="tuesday", budget=0.05)
    assert (second["has_work"], second["locked_by"]) == (False, "monday")


def test_a_run_that_is_refused_keeps_nobody_out(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")
    with pytest.raises(BudgetError):
        planned(store, world, owner="monday", budget=0.05)
    assert planned(store, world, owner="tuesday")["has_work"]


def test_where_there_is_nothing_to_do_nothing_is_refused(store: Store, world: dict[str, Any]):
    opened = planned(store, world, data_only=True, trials="", suite="")
    spend(store, opened["notes"], RUN, "annotate", hours=2.0)
    store.write(f"{opened['notes']}curate.json", b"{}")
    assert not planned(store, world, data_only=True, trials="", suite="", budget=0.001)["has_work"]


def test_a_sweep_is_estimated_over_all_its_trials(store: Store, world: dict[str, Any]):
    add_cycle(store, preset="demo-quick")
    dataset = write_version(store)
    given = {
        "store": store.uri,
        "suite": world["suite"],
        "preset": "demo-quick",
        "dataset": dataset,
    }
    three = {**given, "trials": '{"train.learning_rate": [0.001, 0.002, 0.003]}'}
    with pytest.raises(BudgetError, match=r"sweep \w+: 0\.3\d* GPU-hours are more than its budget of 0\.25"):
        sweep.run(SweepConfig.from_mapping({**three, "budget": 0.25}))
    assert not [key for key in store.list() if key.startswith("sweeps/")]
    two = {**given, "trials": '{"train.learning_rate": [0.001, 0.002]}'}
    assert "estimated at 0.20" in sweep.run(SweepConfig.from_mapping({**two, "budget": 0.25}))["reason"]


def test_a_device_without_a_price_is_no_surprise_at_the_end(store: Store, world: dict[str, Any], tmp_path: Path):
    machines = tmp_path / "machines.yaml"
    machines.write_text("train: {node_selector: {gpu: nvidia-l4}, gpus: 1}\n")
    with pytest.raises(ConfigError, match=r"budget_dollars: there is no price for the GPUs of train; give .*L4=0\.7"):
        planned(store, world, budget_dollars=5.0, launch=str(machines), launched="train")
    assert planned(store, world, budget_dollars=5.0, launch=str(machines), launched="train", gpu_prices="L4=1,H100=3")


BAD = [
    ("0", "is 0; give more than 0, or -1 for no limit"),
    ("-3", "is -3; give more than 0, or -1 for no limit"),
    ("nan", "must be finite"),
    ("inf", "must be finite"),
    ("much", "must be a number"),
]


@pytest.mark.parametrize("name", ["budget", "budget_dollars"])
@pytest.mark.parametrize(("value", "complaint"), BAD)
def test_no_budget_is_taken_that_is_none(name: str, value: str, complaint: str):
    for kind, more in ((PlanConfig, {"shards": "s"}), (SweepConfig, {"trials": "[]"})):
        with pytest.raises(ConfigError, match=rf"{name} {complaint}"):
            kind.from_mapping({"store": "s", "suite": "s", **more, name: value})
