"""The whole cycle, stage by stage as the pipeline runs them, on a folder and on a bucket, with the real tiny LVLM."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig
from hqclip.cycle.config import LineageConfig
from hqclip.cycle.lineage import lineage
from hqclip.demo.world import make_world
from hqclip.records import Champion, CycleRecord
from hqclip.store import open_store
from tests.cycle import Cycle
from tests.fakes.gcs import FakeGcs


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "folder":
        yield str(tmp_path / "store")
        return
    with FakeGcs("bucket") as fake, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        yield "gs://bucket/store"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=40, scenes=8))


def contents(root: str) -> dict[str, tuple[int, int]]:
    """Every object with its size and checksum."""
    store = open_store(root)
    infos = [store.stat(key) for key in store.list()]
    return {info.key: (info.size, info.crc32c) for info in infos if info}


@pytest.mark.slow
def test_two_cycles_refine_train_judge_and_promote_and_a_second_run_does_nothing(
    root: str, world: dict[str, Any], tmp_path: Path
):
    cycle = Cycle(root, world, tmp_path / "first")
    first = cycle.run("raw,hqclip", cycle=1)
    assert first["verdict"] == "promoted"
    assert set(first["averages"]) == {"raw", "hqclip"}
    assert cycle.result("annotate")["statuses"].get("ok", 0) > 30
    assert cycle.result("score")["scores"] == ""
    assert open_store(root).read(first["report"]).startswith(b"<!DOCTYPE html>")

    before = contents(root)
    again = Cycle(root, world, tmp_path / "again")
    assert again.plan("raw,hqclip", cycle=1)["has_work"] is False
    assert again.run("raw,hqclip", cycle=1)["already_done"] is True
    assert again.result("download")["already_done"] == again.result("download")["num_shards"]
    assert again.result("annotate")["already_done"] == again.result("annotate")["num_shards"]
    assert again.result("train-hqclip")["already_done"] is True
    assert contents(root) == before

    second = Cycle(root, world, tmp_path / "second")
    assert second.plan("hqclip")["cycle"] == 2  # the champion has changed, so there is work again
    verdict = second.run("hqclip", cycle=2)
    assert second.result("score")["score_model"] == first_champion(root, first)
    assert second.result("curate")["flags"]["low_similarity"] > 0
    assert verdict["verdict"] in ("promoted", "refused")
    chain = lineage(LineageConfig(store=root, cycle=2))["chain"]
    assert [link["cycle"] for link in chain] == [2, 1]
    assert chain[0]["dataset_parent"] == chain[1]["dataset"]


def first_champion(root: str, first: dict[str, Any]) -> str:
    store = open_store(root)
    record = CycleRecord.from_json(store.read("cycles/000001.json"), "cycles/000001.json")
    return str(next(run["model_digest"] for run in record.runs if f"{run['run']}/model" == first["candidate"]))


def run_until_done(root: Path, world: dict[str, Any], kills: list[int]) -> Champion:
    """A first cycle in a fresh process, killed before the given writes and started again, until it ends by itself."""
    for kill_at in [*kills, 0]:
        words = [str(root / "store"), json.dumps(world), str(root / f"results-{kill_at}"), str(kill_at)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.cycle", *words], capture_output=True, text=True, cwd=Path(__file__).parents[1]
        )
        assert done.returncode == (137 if kill_at else 0), done.stderr
    return Champion.from_json(open_store(str(root / "store")).read("champion.json"), "champion.json")


@pytest.mark.slow
def test_a_cycle_that_was_killed_again_and_again_ends_with_the_same_data_set_and_weights(
    world: dict[str, Any], tmp_path: Path
):
    undisturbed = run_until_done(tmp_path / "undisturbed", world, [])
    # amid download, annotate or curate; amid checkpoints; amid the export or the closing of the cycle
    killed = run_until_done(tmp_path / "killed", world, [4, 6, 14, 9])
    assert killed == undisturbed
    names = [
        {key for key in contents(str(tmp_path / which / "store")) if "/tensorboard/" not in key and "/work/" not in key}
        for which in ("undisturbed", "killed")
    ]
    assert names[0] == names[1]
