"""`hqclip migrate` looks at all that bears a format, changes each document once, and goes on where it was killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hqclip.cycle import migrate
from hqclip.cycle.config import MigrateConfig
from hqclip.cycle.migrate import READ
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import Champion, Manifest, Pool, ShardEntry, canonical_json
from hqclip.store import Store, open_store
from tests.test_formats import KINDS

POOL = Pool(digest="0" * 16, source="s", shards=(ShardEntry("shards/0.tar", "shards/0.index.parquet", 1, 2, 3),))
NUMBER = 3  # pools of the toy store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(str(tmp_path / "store"))
    for number in range(NUMBER):
        store.write(f"pools/{number:016x}.json", POOL.to_json())
    return store


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version whose pools are of format 2, in which the source is called origin."""

    def renamed(document: dict[str, Any]) -> dict[str, Any]:
        return {"origin": document.pop("source"), **document}

    monkeypatch.setattr(migrate, "STEPS", {("pool", 1): renamed})
    monkeypatch.setattr(migrate, "READ", {**READ, "pool": 2})


def run(store: Store, *, dry: bool = False) -> dict[str, Any]:
    return migrate.run(MigrateConfig(store=store.uri, dry_run=dry))


def pools(store: Store) -> list[dict[str, Any]]:
    return [json.loads(store.read(key)) for key in store.list("pools/")]


def test_every_kind_of_manifest_is_looked_at() -> None:
    assert {kind for kind, _ in KINDS} <= set(READ)


def test_without_steps_it_says_what_is_there_and_writes_nothing(store: Store) -> None:
    before = {key: store.stat(key) for key in store.list()}
    assert run(store) == {
        "store": store.uri,
        "formats": {"pool 1": NUMBER},
        "changes": [],
        "damaged": [],
        "dry_run": False,
        "reason": "nothing to migrate: this version reads all formats that are there",
    }
    assert {key: store.stat(key) for key in store.list()} == before


def test_a_dry_run_says_per_file_what_the_other_does(store: Store, toy: None) -> None:
    before = pools(store)
    said = run(store, dry=True)
    assert pools(store) == before
    assert run(store)["changes"] == said["changes"]
    assert said["changes"][0] == {"key": f"pools/{0:016x}.json", "kind": "pool", "from": 1, "to": 2}
    assert [(one["format"], one["origin"], "source" in one) for one in pools(store)] == [(2, "s", False)] * NUMBER
    assert run(store)["changes"] == []


@pytest.mark.parametrize("killed_at", range(NUMBER))
def test_what_was_killed_goes_on_with_the_next_call(
    store: Store, toy: None, killed_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, count = type(store).swap, iter(range(NUMBER))

    def swap_or_die(self: Store, key: str, data: bytes, **more: Any) -> Any:
        if next(count) == killed_at:
            raise KeyboardInterrupt
        return swap(self, key, data, **more)

    monkeypatch.setattr(type(store), "swap", swap_or_die)
    with pytest.raises(KeyboardInterrupt):
        run(store)
    monkeypatch.setattr(type(store), "swap", swap)
    assert {one["format"] for one in pools(store)} <= {1, 2}  # each is whole
    assert len(run(store)["changes"]) == NUMBER - killed_at
    assert {one["format"] for one in pools(store)} == {2}


def test_what_somebody_else_changes_meanwhile_is_read_again(
    store: Store, toy: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap, others = type(store).swap, iter([True])
    key = f"pools/{0:016x}.json"

    def after_somebody(self: Store, where: str, data: bytes, **more: Any) -> Any:
        if next(others, False):
            changed = {**json.loads(POOL.to_json()), "source": "of somebody else"}
            store.write(key, canonical_json(changed), create_only=False)
        return swap(self, where, data, **more)

    monkeypatch.setattr(type(store), "swap", after_somebody)
    run(store)
    assert json.loads(store.read(key))["origin"] == "of somebody else"


def test_a_store_that_never_stands_still_is_given_up(store: Store, toy: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_late(*_: Any, **__: Any) -> Any:
        raise ConflictError("changed")

    monkeypatch.setattr(type(store), "swap", too_late)
    with pytest.raises(ConflictError, match="is being changed all the time"):
        run(store)


def test_a_newer_format_is_refused_with_who_reads_it_and_nothing_is_changed(store: Store, toy: None) -> None:
    champion = {"kind": "champion", "format": 7, "provenance": {"code_version": "0.9.0"}}
    store.write("champion.json", canonical_json(champion))
    before = pools(store)
    with pytest.raises(DataError, match=r"champion.json: format 7 is newer than 1; upgrade hqclip to 0.9.0, which"):
        run(store)
    assert pools(store) == before


def test_readers_too_say_which_version_is_needed() -> None:
    made = {"provenance": {"code_version": "0.9.0"}}
    newer = {**json.loads(POOL.to_json()), **made, "format": 2}
    with pytest.raises(DataError, match=r"format 2 is newer than 1; upgrade hqclip to 0\.9\.0, which wrote it, or"):
        Pool.from_json(canonical_json(newer), "pools/x.json")
    strange = {**json.loads(POOL.to_json()), **made, "colour": "red"}
    with pytest.raises(DataError, match=r"damaged pool manifest .*; hqclip 0\.9\.0 wrote it, this is "):
        Pool.from_json(canonical_json(strange), "pools/x.json")
    assert Manifest.writer_of({"provenance": "nonsense"}) == ""


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"kind": "mug", "format": 1}', b'{"kind": "champion"}'])
def test_what_is_damaged_is_named_and_left(store: Store, data: bytes) -> None:
    store.write("champion.json", data)
    store.write("shards/0.index.parquet", data)
    store.write("notes.json", data)  # not ours
    said = run(store)
    assert said["damaged"] == ["champion.json", "shards/0.index.parquet"]
    assert store.read("champion.json") == data


def test_where_there_is_no_store_there_is_nothing_to_migrate(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no store of hqclip is there"):
        migrate.run(MigrateConfig(store=str(tmp_path / "nowhere")))


def test_the_champion_is_one_of_them(store: Store) -> None:
    store.write("champion.json", Champion(model="m", model_digest="d", evaluation="e", cycle=1).to_json())
    assert run(store)["formats"] == {"champion 1": 1, "pool 1": NUMBER}
