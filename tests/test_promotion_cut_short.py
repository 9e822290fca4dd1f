"""A promotion that fails or is killed anywhere, and what the same command and the next `plan` make of the store."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle import crown, promote
from hqclip.cycle.config import LineageConfig
from hqclip.cycle.finish import finish
from hqclip.cycle.keys import notes_prefix, plan_key, record_key
from hqclip.cycle.lineage import lineage
from hqclip.errors import AccessError, ConflictError, DataError, NotFoundError, UnavailableError
from hqclip.records import Champion, CyclePlan, CycleRecord, Sample
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from tests import promoting
from tests.fakes.cut_short import cut_short
from tests.fakes.gcs import FakeGcs
from tests.promoting import copy_of, draw_world, next_plan
from tests.recording import all_well

WINNER = "runs/000001-hqclip/model"


@pytest.fixture(autouse=True)
def no_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of the history, which reads in no order, and of what was spent break nothing."""
    monkeypatch.setattr("hqclip.cycle.report.what_it_took", lambda *_: {})
    monkeypatch.setattr("hqclip.cycle.history.write._write", lambda *_: None)
    monkeypatch.setattr("hqclip.cycle.history.write.read_history", lambda *_: ((), {}))


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a cycle that is all but promoted."""
    return promoting.make_cycle(tmp_path_factory.mktemp("judged"), draw_samples(12))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def root(judged: str, tmp_path: Path) -> str:
    return copy_of(judged, tmp_path / "store")


def assert_whole(root: str, world: dict[str, Any]) -> None:
    """The next cycle is opened against the winner; champion, record and page agree."""
    planned = next_plan(root, world)
    assert (planned["cycle"], planned["has_work"]) == (2, True)
    assert planned["settings"]["score"]["champion"] == WINNER
    store = open_store(root)
    record = CycleRecord.from_json(store.read(record_key(1)), "")
    champion = Champion.from_json(store.read("champion.json"), "")
    assert (record.verdict, record.candidate, champion.model, champion.cycle) == ("promoted", WINNER, WINNER, 1)
    assert store.exists(record.report) and store.exists(champion.evaluation)
    assert f"{WINNER} of cycle 1 is in force" in finish(root, all_well(store, "monday", trials=("hqclip",)))
    assert [link["cycle"] for link in lineage(LineageConfig(store=root, format="json"))["chain"]] == [1]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("again", [True, False], ids=["promote again", "plan"])
def test_a_fault_at_any_operation_of_the_store_leaves_what_can_be_finished(
    judged: str, world: dict[str, Any], tmp_path: Path, after: bool, again: bool
):
    with pytest.MonkeyPatch.context() as patch:
        whole = cut_short(patch, 0, UnavailableError("no answer"))
        promote.run(promoting.config_of(copy_of(judged, tmp_path / "whole")))
    changes = [n for n, name in enumerate(whole, 1) if name in ("write", "swap")]
    assert whole[changes[-1] - 1] == "swap" and len(changes) == 3
    for number in range(1, len(whole) + 1):
        if number < changes[0] - 2 and number % 5:
            continue  # nothing has changed so far: a few of these do
        root = copy_of(judged, tmp_path / f"failed-{number}")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UnavailableError):
            cut_short(patch, number, UnavailableError("no answer"), after=after)
            promote.run(promoting.config_of(root))
        closed = open_store(root).exists(record_key(1))
        assert closed or not open_store(root).exists("champion.json")
        if again or not closed:
            promote.run(promoting.config_of(root))
        assert_whole(root, world)
        shutil.rmtree(root)


@pytest.mark.parametrize("kill_at", [1, 2, 3])
def test_a_kill_at_any_change_of_the_store_leaves_what_can_be_finished(root: str, world: dict[str, Any], kill_at: int):
    command = [sys.executable, "-m", "tests.promoting", root, str(kill_at)]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert killed.returncode == 137, killed.stderr
    assert not open_store(root).exists("champion.json")
    if kill_at < 3:  # not closed: the plan has nothing to say of it
        assert promote.run(promoting.config_of(root))["already_done"] is False
    assert_whole(root, world)
    assert promote.run(promoting.config_of(root))["already_done"] is True


def test_a_promotion_in_a_bucket_that_was_refused_the_crown_is_finished_by_the_next_plan(
    judged: str, world: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    with FakeGcs("bucket") as fake:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake.url)
        local, bucket = open_store(judged), open_store("gs://bucket/store")
        for key in local.list():
            bucket.write(key, local.read(key))
        fake.fault("delay", "POST uploadType=multipart", 0, times=2)  # the page and the record
        fake.fault("refuse", "POST uploadType=multipart", 403)
        with pytest.raises(AccessError, match="champion.json"):
            promote.run(promoting.config_of("gs://bucket/store"))
        assert not fake.unfired()
        assert bucket.exists(record_key(1)) and not bucket.exists("champion.json")
        assert_whole("gs://bucket/store", world)


def test_a_promotion_by_hand_has_no_notes_and_is_finished_from_its_record(root: str, world: dict[str, Any]):
    config, store = promoting.config_of(root), open_store(root)
    for key in list(store.list(notes_prefix(1))):
        store.delete(key)
    promote.run(config)
    store.delete("champion.json")
    assert_whole(root, world)


def old_order(root: str) -> None:
    """What version 0.1 left when it was killed behind the crown: a champion without a record."""
    promote.run(promoting.config_of(root))
    open_store(root).delete(record_key(1))


def test_what_an_older_version_left_half_done_is_finished_by_the_next_plan(
    root: str, world: dict[str, Any], capsys: pytest.CaptureFixture[str]
):
    old_order(root)
    assert_whole(root, world)
    assert "the promotion of cycle 1 was cut short; finishing it" in capsys.readouterr().err


def test_what_an_older_version_left_half_done_by_hand_is_explained(root: str, world: dict[str, Any]):
    old_order(root)
    open_store(root).delete(f"{notes_prefix(1)}curate.json")
    with pytest.raises(NotFoundError, match=r"promotion of cycle 1 was cut short.*missing; finish it with `hqclip pr"):
        next_plan(root, world)
    open_store(root).delete(plan_key(1))
    with pytest.raises(NotFoundError, match=r"has no cycles/000001.plan.json: bring it back"):
        next_plan(root, world)


def test_a_champion_that_somebody_put_back_in_force_stays(root: str, world: dict[str, Any]):
    """The task of the promotion has said that it was done, so what came after is no accident."""
    store = open_store(root)
    result = promote.run(promoting.config_of(root))
    store.write(f"{notes_prefix(1)}promote.json", json.dumps(result).encode())
    store.delete("champion.json")
    assert next_plan(root, world)["settings"]["score"].get("champion", "") == ""
    assert not store.exists("champion.json")


def test_a_candidate_that_was_altered_after_its_training_is_not_put_in_force(root: str):
    store = open_store(root)
    for name, message in (("hqclip", r"digest \w+, not \w+ as when it was judged"), ("raw", "")):
        path = Path(root) / f"runs/000001-{name}/model/open_clip_model.safetensors"
        path.write_bytes(path.read_bytes() + b"!")
        if message:
            with pytest.raises(DataError, match=message):
                promote.run(promoting.config_of(root))
            path.write_bytes(path.read_bytes()[:-1])
    assert not store.exists("champion.json") and not store.exists(record_key(1))
    assert promote.run(promoting.config_of(root))["verdict"] == "promoted"  # only what wins is read to the end


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_config.json"])
@pytest.mark.parametrize("lost", [True, False], ids=["lost", "altered"])
def test_a_winner_that_was_altered_after_its_promotion_was_cut_short_is_not_put_in_force(
    root: str, world: dict[str, Any], name: str, lost: bool
):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UnavailableError):
        patch.setattr(LocalStore, "swap", cut_off)
        promote.run(promoting.config_of(root))
    store, path = open_store(root), Path(root) / WINNER / name
    assert store.exists(record_key(1)) and not store.exists("champion.json")
    whole = path.read_bytes()
    path.unlink()
    if not lost:
        path.write_bytes(whole + b" ")
    for again in (lambda: next_plan(root, world), lambda: promote.run(promoting.config_of(root))):
        with pytest.raises(NotFoundError if lost else DataError, match="winner of cycle 1 is not put in force: .*dele"):
            again()
        assert not store.exists("champion.json")
    gone = copy_of(root, Path(root).parent / "gone")
    shutil.rmtree(Path(gone) / "runs/000001-hqclip")
    for key in list(open_store(gone).list("cycles/000001.")):
        open_store(gone).delete(key)
    assert next_plan(gone, world)["cycle"] == 1  # as the message says
    path.write_bytes(whole)
    assert_whole(root, world)


def cut_off(*_: Any, **__: Any) -> None:
    raise UnavailableError("no answer")


def test_an_evaluation_of_other_weights_than_were_trained_is_not_promoted(root: str):
    store = open_store(root)
    store.write("runs/000001-raw/result.json", b'{"model_digest": "0123456789abcdef"}', create_only=False)
    with pytest.raises(DataError, match="is not what was trained: it has the digest .*not 0123456789abcdef as runs/"):
        promote.run(promoting.config_of(root))
    store.write("runs/000001-raw/result.json", b"{", create_only=False)
    with pytest.raises(DataError, match="runs/000001-raw/result.json is damaged: no JSON .*bring it back"):
        promote.run(promoting.config_of(root))
    assert not store.exists("champion.json")


def test_outcomes_that_were_altered_decide_nothing(root: str):
    store, config = open_store(root), promoting.config_of(root)
    altered = next(Path(root).glob("evaluations/*/suite.outcomes.parquet"))
    data = bytearray(altered.read_bytes())
    data[len(data) // 3] ^= 1
    altered.write_bytes(bytes(data))
    with pytest.raises(DataError, match="is not what its evaluation names: it was damaged or altered; delete both"):
        promote.run(config)
    assert not store.exists("champion.json") and not store.exists(record_key(1))


def test_a_champion_that_changes_while_the_page_is_written_leaves_neither_record_nor_page(
    root: str, monkeypatch: pytest.MonkeyPatch
):
    """The second look, behind the page, is what keeps a false verdict from being written down."""
    other = Champion(model="runs/other/model", model_digest="o", evaluation="e", cycle=7)
    store, write = open_store(root), LocalStore.write

    def meanwhile(self: LocalStore, key: str, data: bytes, *, create_only: bool = True) -> Any:
        if key.endswith(".html"):
            write(self, "champion.json", other.to_json())
        return write(self, key, data, create_only=create_only)

    monkeypatch.setattr(LocalStore, "write", meanwhile)
    with pytest.raises(ConflictError, match="champion.json became runs/other/model"):
        promote.run(promoting.config_of(root))
    assert not store.exists(record_key(1)) and not store.exists("cycles/000001.html")


def test_a_cycle_that_kept_its_champion_leaves_nothing_to_finish(root: str):
    store = open_store(root)
    promote.run(promoting.config_of(root))
    first = CyclePlan.from_json(store.read(plan_key(1)), "")
    record = CycleRecord.from_json(store.read(record_key(1)), "")
    before = {"model": WINNER, "model_digest": record.runs[1]["model_digest"], "cycle": 1}
    store.write(plan_key(2), replace(first, cycle=2, champion=before).to_json())
    store.write(record_key(2), replace(record, cycle=2, parent=1, verdict="refused").to_json())
    assert crown.unfinished_promotion(store) == 0
