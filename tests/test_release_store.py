"""The store that the previous release wrote is read by all that reads stores, and goes on.

Packed by `tar --sort=name --owner=0 --group=0 -cf - world store/shards store | xz -9e` after `tests/releases/make.py`.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hqclip import cli
from hqclip.cycle.crown import read_record
from hqclip.cycle.keys import plan_key
from hqclip.cycle.report import write_report
from hqclip.errors import NotFoundError
from hqclip.records import CyclePlan
from hqclip.store import open_store

PACKED = Path(__file__).parent / "releases" / "0.1.tar.xz"
MODEL = "runs/000001-hqclip/model"
SHARDS = "world/pool-24/{00000..00000}.tar"
SUITE = "world/suite-8/suite.json"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the store and the world that it was made of; it is the working directory."""
    with tarfile.open(PACKED) as packed:
        packed.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code = cli.main([*words, "--store", "store"])
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def seen(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name[0] != "."}


def document(path: str) -> dict[str, Any]:
    return dict(json.loads(Path("store", path).read_text()))


def test_it_is_small() -> None:
    assert PACKED.stat().st_size < 2**20


def test_the_same_cycle_is_done_and_another_one_follows_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "--shards", SHARDS, "--suite", SUITE, "--preset", "demo-quick"]
    done = json.loads(said(capsys, *asked, "--cycle", "1", "--overrides", own_overrides()))
    assert (done["has_work"], done["reason"]) == (False, "cycle 1 is done: the same data, settings and champion")
    following = json.loads(said(capsys, *asked))
    assert following["has_work"]
    assert document("cycles/000002.plan.json")["champion"]["model"] == MODEL


def own_overrides() -> str:
    """The settings of the cycle, as `hqclip reproduce` says them."""
    kept = document("cycles/000001.plan.json")["settings"]
    names = ("samples_seen", "batch_size", "checkpoint_every", "log_every", "learning_rate", "weight_decay", "warmup")
    return json.dumps({"annotate.batch_size": 20, **{f"train.{name}": kept["train"][name] for name in names}})


def test_its_model_is_judged_with_the_scores_that_it_had(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (kept,) = (json.loads(path.read_text()) for path in Path("store/evaluations").glob("*/????????????????.json"))
    again = ["evaluate", "--model", MODEL, "--suite", SUITE, "--device", "cpu"]
    reused = json.loads(said(capsys, *again))
    assert reused["average"] == pytest.approx(kept["average"])
    for path in Path("store/evaluations").rglob("*.*"):
        path.unlink()
    anew = json.loads(said(capsys, *again))
    assert anew["average"] == pytest.approx(kept["average"])


def test_its_lineage_is_a_tree(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = said(capsys, "lineage")
    assert document("champion.json")["model_digest"] in tree
    assert "24 samples of world/pool-24/{00000..00000}.tar" in tree


def test_gc_finds_nothing_that_is_in_force(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = seen(here / "store")
    found = json.loads(said(capsys, "gc", "--days", "0"))
    kept = ("shards", "pools", "annotations", "curated", "datasets", "runs/", "evaluations")
    assert not [one for one in found["rows"] if one["what"].startswith(kept)]
    assert {name: seen(here / "store").get(name) for name in before} == before


def test_reproduce_says_how_it_was_made(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reproduce", "--store", "store"]) == NotFoundError.exit_code
    commands, missing = capsys.readouterr()
    assert SHARDS in commands
    assert '"train.samples_seen": 32' in commands
    told = [line for line in missing.splitlines() if "cycle 1:" in line]
    assert len(told) == 2  # all that 0.1 did not write down, and nothing that it did
    assert all("was not recorded" in line for line in told)


def test_the_page_of_its_cycle_is_drawn_again(here: Path) -> None:
    store = open_store("store")
    record = read_record(store, 1)
    plan = CyclePlan.from_json(store.read(plan_key(1)), plan_key(1))
    before = store.read(record.report)
    write_report(store, plan, record)
    page = store.read(record.report).decode()
    assert page != before.decode()
    assert "average" in page
    assert record.candidate.split("/")[1] in page


def test_there_is_nothing_to_migrate_and_nothing_is_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = seen(here / "store")
    for words in (["migrate", "--dry-run"], ["migrate"]):
        result = json.loads(said(capsys, *words))
        assert (result["changes"], result["damaged"]) == ([], [])
        assert result["reason"].startswith("nothing to migrate")
        assert {"pool 1", "index 1", "annotations 1", "curated 1", "cycle-plan 1", "champion 1"} <= set(
            result["formats"]
        )
    assert seen(here / "store") == before
