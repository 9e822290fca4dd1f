"""`hqclip gc`: what nothing in force refers to goes, and nobody misses it, whenever it is killed and whoever comes."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hqclip import cli
from hqclip.config import DownloadConfig
from hqclip.cycle import lineage, links, lock
from hqclip.cycle.attempt import recorded
from hqclip.cycle.config import LineageConfig
from hqclip.cycle.garbage import collect
from hqclip.cycle.garbage.config import GcConfig
from hqclip.cycle.garbage.survey import Shards, survey
from hqclip.data.download import run as download
from hqclip.data.parquet import to_bytes
from hqclip.data.shards import write_shard
from hqclip.errors import ConfigError, ConflictError, DataError, NotFoundError
from hqclip.records import DatasetVersion, Pool, Sample
from hqclip.store import Listed
from hqclip.store.local import LocalStore
from hqclip.task_records import TaskRecord, write_record
from tests.fakes.cut_short import Killed
from tests.garbage import (
    Memory,
    broken,
    dataset,
    digest,
    evaluation,
    judge,
    make_data,
    make_run,
    make_store,
    pool,
    write,
)

PATIENCE_S = 60
LOCKS = {"cycles/lock.json", "cycles/lock.look"}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Memory:
    store = Memory()
    make_store(store)
    assert broken(store) == []
    for module in (collect, lineage):
        monkeypatch.setattr(module, "open_store", lambda _: store)
    return store


def config(store: Memory, **more: Any) -> GcConfig:
    return GcConfig(store=store.uri, **{"days": 0.0, "champions": 2, **more})


def gone(store: Memory, **more: Any) -> set[str]:
    """What a call deletes."""
    before = set(store.list())
    collect.run(config(store, delete=True, **more))
    return before - set(store.list()) - LOCKS


def of(number: int) -> dict[str, set[str]]:
    """What a cycle alone has in the store."""
    annotator, policy = digest("annotations", number), digest("policy", number)
    run = f"runs/{number:06d}-hqclip"
    both = ("shared", str(number))
    return {
        "data": {
            pool(number),
            dataset(number),
            dataset(number).replace("dataset.json", "shards.parquet"),
            f"annotations/{annotator}/annotator.json",
            *(f"annotations/{annotator}/{name}.parquet" for name in both),
            *(f"curated/{annotator}-{policy}/{name}.parquet" for name in both),
            f"shards/{number}.tar",
            f"shards/{number}.index.parquet",
        },
        "checkpoints": {f"{run}/checkpoints/step-000000004/{name}" for name in ("model.safetensors", "receipt.json")},
        "run": {f"{run}/{name}" for name in ("config.json", "result.json", "model/open_clip_model.safetensors")},
    }


def expected() -> set[str]:
    """Of a store as made here: cycles 1 and 3 and the done sweep; of cycle 2 the run, as an open sweep has its data."""
    wanted = set().union(*of(1).values(), *of(3).values(), of(2)["run"], of(2)["checkpoints"])
    for number in (4, 5, 6):
        wanted |= of(number)["checkpoints"]
    files = ("config.json", "result.json", "model/open_clip_model.safetensors")
    steps = ("checkpoints/step-000000004/model.safetensors", "checkpoints/step-000000004/receipt.json")
    return wanted | {f"runs/sweep-aaaaaaaa-lr1/{name}" for name in (*files, *steps)}


def test_what_champions_open_work_and_the_newest_cycle_name_stays_and_the_rest_goes(store: Memory) -> None:
    assert gone(store) == expected()
    assert broken(store) == []
    assert gone(store) == set(), "a second call finds nothing"


def test_it_is_only_said_what_would_go_until_it_is_asked_for(store: Memory, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(store.list())
    words = ["gc", "--store", store.uri, "--days", "0", "--champions", "2"]
    assert cli.main(words) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert set(store.list()) - LOCKS == before - LOCKS
    assert (result["deleted"], result["reason"]) == (False, "nothing was deleted; --delete does it")
    assert result["objects"] == len(expected())
    kinds = ["checkpoints", "runs", "datasets", "curated", "annotations", "pools", "shards"]
    assert list(dict.fromkeys(row["kind"] for row in result["rows"])) == kinds
    row = next(row for row in result["rows"] if row["what"] == "runs/000001-hqclip")
    assert row["bytes"] == sum(len(store.read(key)) for key in store.list("runs/000001-hqclip/"))
    assert "nothing in force names it" in row["why"] and "runs/000001-hqclip: nothing in force" in said.err
    assert cli.main([*words, "--delete"]) == 0
    assert before - set(store.list()) == expected()
    assert json.loads(capsys.readouterr().out)["objects"] == len(expected())


def test_what_is_young_stays_with_all_that_it_names(store: Memory) -> None:
    assert gone(store, days=14.0) == set()
    age(store, lambda key: 0 if key == "runs/000001-hqclip/config.json" else 20 * 86400)
    assert gone(store, days=14.0) == expected() - of(1)["data"] - of(1)["run"]
    age(store, lambda _: 20 * 86400)
    assert gone(store, days=14.0) == of(1)["data"] | of(1)["run"]


def age(store: Memory, of_key: Callable[[str], float]) -> None:
    """Make objects look so many seconds old."""
    store.times = {key: time.time() - of_key(key) for key in store.objects}


def test_texts_that_the_table_of_a_data_set_names_stay_whoever_wrote_its_manifest(store: Memory) -> None:
    """Two runs of `curate` with other settings that made the same content at the same time."""
    others = {key for key in of(1)["data"] if key.startswith("curated/")}
    table = pa.table({"curated": [min(others)], "scores": [""]})
    store.write(dataset(5).replace("dataset.json", "shards.parquet"), to_bytes(table), create_only=False)
    assert gone(store) == expected() - others


def test_what_one_says_to_keep_stays_with_all_that_it_names(store: Memory) -> None:
    kept = ("runs/000001-hqclip", dataset(3).removesuffix("/dataset.json"))
    assert gone(store, keep=kept) == expected() - of(1)["run"] - of(1)["data"] - of(3)["data"]
    with pytest.raises(ConfigError, match="--keep mine"):
        collect.run(config(store, keep=("mine",)))


def test_the_model_in_force_stays_whichever_cycle_it_is_of(store: Memory) -> None:
    said = json.loads(store.read("champion.json"))
    said.update(cycle=1, model="runs/000001-hqclip/model")  # somebody went back
    store.write("champion.json", json.dumps(said).encode(), create_only=False)
    assert gone(store) == expected() - of(1)["run"] - of(1)["data"]


def test_texts_and_pools_of_a_cycle_that_is_not_that_far_stay(store: Memory) -> None:
    for stage in ("annotate", "score", "curate"):
        store.delete(f"cycles/000007.stages/{stage}.json")
    store.delete(dataset(7))
    found = gone(store)
    assert not any(key.startswith(("annotations/", "scores/", "curated/")) for key in found)
    store.delete("cycles/000007.stages/download.json")
    assert not any(key.startswith(("pools/", "shards/")) for key in gone(store))


def test_data_of_the_last_cycles_that_trained_nothing_stay(store: Memory) -> None:
    for number in (8, 9, 10):
        make_data(store, number)
        write(store, f"cycles/{number:06d}.plan.json", {"kind": "cycle-plan", "points": []})
        write(store, f"cycles/{number:06d}.stages/curate.json", {"dataset": dataset(number)})
    assert gone(store) == expected() | of(8)["data"]


def test_evaluations_go_with_a_model_that_no_record_names(store: Memory) -> None:
    make_run(store, "by-hand", 1, 20)
    judge(store, "runs/by-hand/model", 20)
    judge(store, "ViT-B-32:laion2b_s34b_b79k", 21)
    judge(store, "runs/deleted-before/model", 22)
    beside = evaluation(23).replace(".json", ".0123abcd.outcomes.parquet")
    store.write(beside, b"answers")  # what is left of an evaluation that was cut short twice
    found = gone(store)
    assert {key for key in found if key.startswith("evaluations/")} == {
        *(evaluation(20), evaluation(20).replace(".json", ".outcomes.parquet")),
        *(evaluation(22), evaluation(22).replace(".json", ".outcomes.parquet")),
        beside,
    }
    assert "runs/by-hand/result.json" in found and broken(store) == []


def test_rows_that_a_finished_shard_left_behind_go(store: Memory) -> None:
    folder = f"annotations/{digest('annotations', 5)}"
    store.write(f"{folder}/parts/shared/0.parquet", b"rows")
    store.write(f"{folder}/parts/in-work/0.parquet", b"rows")
    assert gone(store) == expected() | {f"{folder}/parts/shared/0.parquet"}


def test_what_nobody_knows_stays(store: Memory) -> None:
    strange = ["shards/README.md", "pools/mine.json", "datasets/laion/0.parquet", "annotations/teacher/a.parquet"]
    strange += ["evaluations/notes.json", "suites/quiz/suite.json", "curated/x/y", "launch/a/1/job.json", "runs/list"]
    for key in strange:
        store.write(key, b"?")
    assert gone(store) == expected()


def test_a_document_in_force_that_is_damaged_stops_it_before_anything_is_deleted(store: Memory) -> None:
    for key in ("cycles/000005.json", dataset(5), pool(5), "cycles/000007.stages/download.json"):
        before, content = set(store.list()), store.read(key)
        store.write(key, b"{", create_only=False)
        with pytest.raises(DataError, match=f"{key} is damaged.*nothing was deleted"):
            collect.run(config(store, delete=True))
        assert set(store.list()) - LOCKS == before - LOCKS
        store.write(key, content, create_only=False)


def test_a_place_without_a_store_is_named_and_left_as_it_is(tmp_path: Path) -> None:
    for delete in (False, True):
        with pytest.raises(NotFoundError, match="no store of hqclip"):
            collect.run(GcConfig(store=str(tmp_path / "nowhere"), delete=delete))
    assert not (tmp_path / "nowhere").exists()


def test_killed_at_any_change_it_leaves_nothing_half_referenced_and_goes_on(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "BATCH", 1)
    monkeypatch.setattr(collect, "AT_ONCE", 1)
    monkeypatch.setattr("hqclip.cycle.garbage.survey.SIGN_S", 0.0)  # as what is to go is older than any sign of life
    before, at, new = set(store.list()), 0, dict(store.objects)
    while True:
        store.objects = dict(new)
        with pytest.MonkeyPatch.context() as patch:
            if not die_at(at, patch, lambda: collect.run(config(store, delete=True))):
                break
        assert broken(store) == [], f"killed at change {at}"
        assert before - set(store.list()) <= expected()
        collect.run(config(store, delete=True))
        assert before - set(store.list()) == expected(), f"killed at change {at}"
        at += 1
    assert at > len(expected())


def die_at(at: int, patch: pytest.MonkeyPatch, work: Callable[[], object]) -> bool:
    """Whether it came so far: no change from the one numbered `at` on is made."""
    count = iter(range(1 << 30))

    def dying(change: Any) -> Any:
        def call(*given: Any, **more: Any) -> Any:
            if next(count) >= at:
                raise Killed
            return change(*given, **more)

        return call

    for name in ("write", "swap", "delete"):
        patch.setattr(Memory, name, dying(getattr(Memory, name)))
    try:
        work()
    except Killed:
        return True
    return False


def test_while_a_cycle_is_refined_nothing_is_deleted(store: Memory) -> None:
    assert lock.take(store, "monday", 7) is None
    before = set(store.list())
    result = collect.run(config(store, delete=True))
    assert set(store.list()) - LOCKS == before - LOCKS
    assert not result["deleted"] and "cycle 7 is being refined by run monday" in result["reason"]
    lock.release(store, "monday")
    assert gone(store) == expected()


def test_while_anything_else_is_at_work_nothing_is_deleted(store: Memory) -> None:
    alive = {
        f"annotations/{digest('annotations', 1)}/claims/0.json": "is in the making",
        "launch/train/1/lease.json": "a job is at work (launch/train/1)",
        "runs/new/config.json": "runs/new is in the making",
    }
    for key, why in alive.items():
        store.write(key, b"{}")
        assert gone(store) == set()
        assert why in collect.run(config(store, delete=True))["reason"]
        assert why in collect.run(config(store))["reason"], "it is said beforehand, too"
        store.delete(key)
    record = TaskRecord(run="sweep-7", stage="evaluate", started=0.0)
    write_record(store, record)
    assert "run sweep-7 is at work" in collect.run(config(store, delete=True))["reason"]
    write_record(store, TaskRecord(run="sweep-7", stage="evaluate", started=0.0, ended=1.0, exit_code=0))
    assert gone(store) == expected()


def test_a_run_that_begins_meanwhile_and_wants_an_old_pool_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw_samples: Callable[..., list[Sample]]
) -> None:
    """It begins when all is listed and the first object is to go: it waits, then brings what is not there any more."""
    monkeypatch.setattr(lock, "WAIT_S", 0.01)
    store = LocalStore(tmp_path / "store")
    (tmp_path / "web").mkdir()
    write_shard(draw_samples(4), tmp_path / "web" / "00000.tar")
    brought = DownloadConfig(store=store.uri, shards=str(tmp_path / "web"))
    old = download(brought)["pool"]
    done: list[dict[str, Any]] = []

    def nightly() -> None:
        with recorded("download", store.uri, owner="tuesday"):
            assert lock.take(store, "tuesday", 8) is None
            done.append(download(brought))

    thread = threading.Thread(target=nightly)
    deletes, waiting = LocalStore.delete, threading.Event()
    wait = lock._busy

    def busy(*given: Any) -> lock.Busy | None:
        waiting.set()
        return wait(*given)

    def delete(self: LocalStore, key: str) -> None:
        if not thread.ident:
            thread.start()
            assert waiting.wait(PATIENCE_S)
        assert not done, "it began before all was deleted"
        deletes(self, key)

    monkeypatch.setattr(lock, "_busy", busy)
    monkeypatch.setattr(LocalStore, "delete", delete)
    monkeypatch.setattr(collect, "AT_ONCE", 1)
    rows = collect.run(GcConfig(store=store.uri, days=0.0, delete=True))["rows"]
    assert [row["what"] for row in rows] == [old.removesuffix(".json"), "shards of no pool that stays"]
    thread.join(PATIENCE_S)
    assert done and done[0]["pool"] == old
    entries = Pool.from_json(store.read(old), old).shards
    assert all(store.exists(key) for entry in entries for key in (entry.key, entry.index))


def test_one_that_was_killed_holds_nobody_up_on_its_machine(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    gone = subprocess.Popen(["true"])  # noqa: S607 - as everywhere
    gone.wait()
    assert lock.take(store, f"gc:{socket.gethostname()}:{gone.pid}", 0) is None
    lock.wait_for_gc(store, "tuesday")
    assert lock.take(store, "tuesday", 1) is None


def test_two_do_not_delete_at_the_same_time(store: Memory) -> None:
    assert lock.take(store, "gc:another-machine:7", 0) is None
    result = collect.run(config(store, delete=True))
    assert not result["deleted"] and "`hqclip gc` is deleting" in result["reason"]


def test_sigterm_frees_the_lock_soon(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies before it can give the lock back, and what it wrote as it was told to end is what counts."""
    assert lock.take(store, "gc:another-machine:7", 0) is None
    lock.mark_ending(store, "gc:another-machine:7")
    monkeypatch.setattr(lock, "ENDING_S", 0.0)
    assert lock.take(store, "tuesday", 1) is None


def test_one_that_lost_the_lock_stops(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "BATCH", 1)
    deletes, before = Memory.delete, set(store.list())

    def delete(self: Memory, key: str) -> None:
        deletes(self, key)
        self.write(lock.KEY, json.dumps({"owner": "tuesday", "cycle": 8, "time": 0}).encode(), create_only=False)

    monkeypatch.setattr(Memory, "delete", delete)
    with pytest.raises(ConflictError, match="somebody else took the lock"):
        collect.run(config(store, delete=True))
    assert len(before - set(store.list())) == 1
    assert json.loads(store.read(lock.KEY))["owner"] == "tuesday", "the lock of the other one is left alone"


def test_what_somebody_writes_to_meanwhile_stays(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = collect.survey

    def then_write(*given: Any) -> Any:
        found = judged(*given)
        time.sleep(0.02)
        store.write("runs/000001-hqclip/tensorboard/events", b"by hand")
        return found

    monkeypatch.setattr(collect, "survey", then_write)
    assert gone(store) == expected() - of(1)["run"] - of(1)["checkpoints"]


def test_what_is_too_much_for_one_call_is_left_to_the_next(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1 << 30, 25))
    with monkeypatch.context() as patch:
        patch.setattr(collect.time, "monotonic", lambda: next(clock))
        patch.setattr(collect, "BATCH", 1)
        first = collect.run(config(store, delete=True, most_minutes=2.0))
    assert "left to the next call" in first["reason"] and broken(store) == []
    monkeypatch.setattr("hqclip.cycle.garbage.survey.SIGN_S", 0.0)
    collect.run(config(store, delete=True))
    assert broken(store) == [] and not [key for key in expected() if store.exists(key)]


def test_old_cycles_keep_their_place_in_the_lineage(store: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(store: Memory, key: str) -> tuple[DatasetVersion]:
        return (DatasetVersion.from_json(store.read(key), key),)

    monkeypatch.setattr(links, "read_dataset", read)  # here a data set is only its manifest
    monkeypatch.setattr(links, "read_if_there", lambda *_: None)  # and what else stands behind a cycle only a name
    monkeypatch.setattr(links, "read_annotator", lambda *_: {})
    collect.run(config(store, delete=True))
    told = lineage.lineage(LineageConfig(store=store.uri, cycle=5, format="json"))
    assert isinstance(told, dict)
    assert [one["cycle"] for one in told["chain"]] == [5, 4, 3, 2, 1]
    assert [one["cycle"] for one in told["chain"] if "gone" in one] == [3, 1]


def test_a_million_objects_take_little_memory_and_are_listed_once(
    store: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40,000 here: in memory they would be 8 MB."""
    scan, asked = Memory.scan, list[str]()

    def many(self: Memory, prefix: str = "") -> Iterator[Listed]:
        asked.append(prefix)
        yield from scan(self, prefix)
        if prefix == "shards/":
            yield from (Listed(f"shards/{n:09d}.tar", 1, 0.0) for n in range(20_000))
        if prefix == "annotations/":
            folder = f"annotations/{digest('annotations', 1)}"
            yield from (Listed(f"{folder}/{n:09d}.parquet", 1, 0.0) for n in range(20_000))

    monkeypatch.setattr(Memory, "scan", many)
    tracemalloc.start()
    try:
        found = survey(store, config(store), "gc:here:1")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum(unit.objects for unit in found.units) == 40_000 + len(expected())
    assert peak < 2 << 20
    assert len(asked) == len(set(asked)), "nothing is listed twice"


def test_the_shards_in_force_are_known_by_eight_bytes_each() -> None:
    shards = Shards(f"shards/{n:05d}" for n in range(10_000))
    assert all(f"shards/{n:05d}" in shards for n in (0, 5_000, 9_999))
    assert "shards/10000" not in shards and "shards/1" not in shards and "" not in Shards(())
