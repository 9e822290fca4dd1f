"""A winner that waits for a person: nothing in force changes until somebody decides, and what is decided stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.cli import main
from hqclip.cycle import approve, crown, promote
from hqclip.cycle.config import ApproveConfig, LineageConfig
from hqclip.cycle.keys import approval_key, notes_prefix, plan_key, record_key
from hqclip.cycle.lineage import lineage
from hqclip.errors import ConfigError, ConflictError, DataError, NotFoundError, UnavailableError
from hqclip.records import Approval, Champion, CyclePlan, CycleRecord, Sample
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from hqclip.task import markdown
from tests import promoting
from tests.fakes.cut_short import cut_short
from tests.promoting import copy_of, draw_world, next_plan

WINNER = "runs/000001-hqclip/model"


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory, draw_samples: Callable[..., list[Sample]]) -> str:
    """A store with a cycle whose winner waits."""
    root = promoting.make_cycle(tmp_path_factory.mktemp("waiting"), draw_samples(12))
    config = replace(promoting.config_of(root), approval=True, floor=("quiz=0.6",))
    said = promote.run(config)
    assert said["verdict"] == "waits for approval"
    assert said["reason"].endswith(f"; `hqclip approve --store {root} --cycle 1` puts it in force")
    open_store(root).write(f"{notes_prefix(1)}promote.json", json.dumps(said).encode())  # as a task does
    return root


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return draw_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(autouse=True)
def no_history(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads in no order, and its faults break nothing."""
    monkeypatch.setattr("hqclip.cycle.history.write._write", lambda *_: None)
    monkeypatch.setattr("hqclip.cycle.history.write.read_history", lambda *_: ((), {}))


@pytest.fixture
def root(waiting: str, tmp_path: Path) -> str:
    return copy_of(waiting, tmp_path / "store")


def decide(root: str, **given: Any) -> dict[str, Any]:
    return approve.run(ApproveConfig(store=root, cycle=1, by="ada", **given))


def in_force(root: str) -> str:
    champion = crown.read_champion(open_store(root))
    return champion.model if champion else ""


def page(root: str) -> str:
    return open_store(root).read("cycles/000001.html").decode()


def other_champion(root: str) -> None:
    other = Champion(model="runs/000002-raw/model", model_digest="o", evaluation="e", cycle=2)
    open_store(root).write("champion.json", other.to_json(), create_only=False)


def test_a_winner_that_waits_changes_nothing_in_force(root: str, world: dict[str, Any]):
    assert in_force(root) == "" and "… Waits for approval" in page(root)
    again = promote.run(replace(promoting.config_of(root), approval=True))
    assert (again["verdict"], again["already_done"]) == ("waits for approval", True)
    planned = next_plan(root, world)
    assert planned["settings"]["score"].get("champion", "") == "" and in_force(root) == ""


def test_the_card_and_the_page_show_what_decided(root: str):
    card = markdown("promote", promote.run(promoting.config_of(root)))
    assert card.startswith("# Cycle 1: waits for approval\n")
    assert [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in card.splitlines() if line.startswith("| quiz ")
    ] == [["quiz", "-", "60.0%", "-", "at least 60%", "reached"]]
    assert "What decided" in page(root) and "✓ reached" in page(root)


def test_approved_it_is_in_force_and_everything_says_by_whom(root: str, world: dict[str, Any]):
    said = decide(root, reason="looks <b>good</b>")
    assert (said["verdict"], said["decision"], said["by"], said["already_done"]) == (
        "promoted",
        "approved",
        "ada",
        False,
    )
    assert in_force(root) == WINNER
    assert "✓ Promoted" in page(root) and "approved by ada at 20" in page(root) and "<b>good" not in page(root)
    told = lineage(LineageConfig(store=root, format="json"))
    assert isinstance(told, dict)
    (link,) = told["chain"]
    assert link["verdict"] == "promoted" and link["approval"].startswith("approved by ada at ")
    assert link["approval"].endswith(" UTC: looks <b>good</b>")
    assert promote.run(promoting.config_of(root))["verdict"] == "promoted"
    assert next_plan(root, world)["settings"]["score"]["champion"] == WINNER


def test_the_same_decision_again_changes_nothing_and_another_one_is_refused(root: str):
    first = decide(root)
    before = open_store(root).read(approval_key(1))
    again = approve.run(ApproveConfig(store=root, cycle=1, by="bob"))
    assert again == {**first, "already_done": True}
    assert open_store(root).read(approval_key(1)) == before
    with pytest.raises(ConflictError, match=r"cycle 1 was approved by ada at .* UTC; a decision stays"):
        decide(root, reject=True, reason="no")


def test_rejected_it_never_comes_in_force(root: str, world: dict[str, Any]):
    said = decide(root, reject=True, reason="worse on faces")
    assert said["verdict"] == "rejected" and in_force(root) == ""
    assert "✕ Not promoted" in page(root) and "worse on faces" in page(root)
    assert next_plan(root, world)["settings"]["score"].get("champion", "") == "" and in_force(root) == ""
    with pytest.raises(ConflictError, match=r"cycle 1 was rejected by ada at .*: worse on faces; a decision stays"):
        decide(root)
    with pytest.raises(ConfigError, match="reason is empty: say why"):
        ApproveConfig(store=root, cycle=1, reject=True)


def test_a_champion_that_changed_meanwhile_is_left_in_force(root: str):
    other_champion(root)
    with pytest.raises(ConflictError, match=r"000002-raw/model \(cycle 2\) while cycle 1 waited for approval"):
        decide(root)
    assert not open_store(root).exists(approval_key(1)) and in_force(root) == "runs/000002-raw/model"
    assert decide(root, reject=True, reason="too late")["verdict"] == "rejected"


def test_a_cycle_that_was_open_when_another_was_approved_gives_way_to_one_against_the_new_champion(
    root: str, world: dict[str, Any]
):
    assert next_plan(root, world)["cycle"] == 2
    store, config = open_store(root), replace(promoting.config_of(root), plan=plan_key(2))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UnavailableError):
        patch.setattr(promote, "write_manifest", cut_off)
        promote.run(config)  # killed behind its page
    assert "✓ Promoted" in store.read("cycles/000002.html").decode()
    decide(root)
    with pytest.raises(ConflictError, match=r"became runs/000001-hqclip/model \(cycle 1\) while cycle 2 ran"):
        promote.run(config)
    assert not store.exists("cycles/000002.html") and not store.exists(record_key(2))
    planned = next_plan(root, world)
    assert (planned["cycle"], planned["has_work"]) == (3, True)
    assert planned["settings"]["score"]["champion"] == WINNER
    assert promote.run(replace(config, plan=plan_key(3)))["verdict"] == "refused"
    assert next_plan(root, world)["has_work"] is False


def cut_off(*_: Any) -> None:
    raise UnavailableError("no answer")


def test_where_nothing_waits_it_is_said(root: str):
    store = open_store(root)
    with pytest.raises(NotFoundError, match=r"has no cycles/000007.json: cycle 7 is not done"):
        approve.run(ApproveConfig(store=root, cycle=7))
    record = CycleRecord.from_json(store.read(record_key(1)), "")
    for verdict in ("refused", "promoted"):
        store.write(record_key(1), replace(record, verdict=verdict).to_json(), create_only=False)
        with pytest.raises(ConflictError, match=f"nothing of cycle 1 waits: it was {verdict}"):
            decide(root)


def test_a_winner_that_was_altered_while_it_waited_is_not_put_in_force(root: str):
    path = Path(root) / "runs/000001-hqclip/model/open_clip_model.safetensors"
    path.write_bytes(path.read_bytes() + b"!")
    with pytest.raises(DataError, match="digest"):
        decide(root)
    assert in_force(root) == "" and not open_store(root).exists(approval_key(1))


@pytest.mark.parametrize("again", [True, False], ids=["approve again", "plan"])
def test_a_winner_that_was_altered_after_its_approval_was_cut_short_is_not_put_in_force(
    root: str, world: dict[str, Any], again: bool
):
    open_store(root).write(approval_key(1), Approval(cycle=1, decision="approved", by="ada", at="then").to_json())
    path = Path(root) / "runs/000001-hqclip/model/open_clip_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole + b"!")
    with pytest.raises(DataError, match="the winner of cycle 1 is not put in force: .* the digest"):
        decide(root) if again else next_plan(root, world)
    assert in_force(root) == "" and "… Waits for approval" in page(root)
    path.write_bytes(whole)
    assert next_plan(root, world)["settings"]["score"]["champion"] == WINNER == in_force(root)


def test_the_command_says_what_came_of_it(root: str, capsys: pytest.CaptureFixture[str]):
    assert main(["approve", "--store", root, "--cycle", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["verdict"] == "promoted" and said["by"]
    assert main(["approve", "--store", root, "--cycle", "1", "--reject", "true", "--reason", "no"]) == 73


@pytest.mark.parametrize("again", [True, False], ids=["approve again", "plan"])
@pytest.mark.parametrize("reject", [True, False], ids=["reject", "approve"])
def test_an_approval_that_is_cut_short_anywhere_is_finished_by_whoever_comes_next(
    waiting: str, world: dict[str, Any], tmp_path: Path, reject: bool, again: bool
):
    given = {"reject": True, "reason": "no"} if reject else {}
    with pytest.MonkeyPatch.context() as patch:
        whole = cut_short(patch, 0, UnavailableError("no answer"))
        decide(copy_of(waiting, tmp_path / "whole"), **given)
    changes = [number for number, name in enumerate(whole, 1) if name in ("write", "swap")]
    assert len(changes) == (3 if reject else 4)  # decision, champion, page, note
    for number in (1, *changes, *(change + 1 for change in changes[:-1])):
        root = copy_of(waiting, tmp_path / f"failed-{number}")
        with pytest.MonkeyPatch.context() as patch, pytest.raises(UnavailableError):
            cut_short(patch, number, UnavailableError("no answer"))
            decide(root, **given)
        decided = open_store(root).exists(approval_key(1))
        assert decided == (number > changes[0])
        if again or not decided:
            decide(root, **given)
        next_plan(root, world)
        assert in_force(root) == ("" if reject else WINNER)
        assert ("✕ Not promoted" if reject else "✓ Promoted") in page(root)
        assert crown.unfinished_promotion(open_store(root)) == 0
        shutil.rmtree(root)


def test_of_two_who_decide_at_once_one_is_told_of_the_other(root: str, monkeypatch: pytest.MonkeyPatch):
    """The other one's decision comes between the look and the write."""
    write = LocalStore.write

    def quicker(self: LocalStore, key: str, data: bytes, *, create_only: bool = True) -> Any:
        if key == approval_key(1):
            monkeypatch.setattr(LocalStore, "write", write)
            decide(root, reject=True, reason="no")
        return write(self, key, data, create_only=create_only)

    monkeypatch.setattr(LocalStore, "write", quicker)
    with pytest.raises(ConflictError, match="was rejected by ada"):
        approve.run(ApproveConfig(store=root, cycle=1, by="bob"))
    assert in_force(root) == ""


def test_an_approval_overtaken_in_the_middle_is_refused_and_holds_nothing_up(root: str, world: dict[str, Any]):
    store = open_store(root)
    store.write(approval_key(1), Approval(cycle=1, decision="approved", by="ada", at="then").to_json())
    other_champion(root)
    first = CyclePlan.from_json(store.read(plan_key(1)), "")
    store.write(plan_key(2), replace(first, cycle=2).to_json())
    store.write(record_key(2), replace(CycleRecord.from_json(store.read(record_key(1)), ""), cycle=2).to_json())
    with pytest.raises(ConflictError, match="became runs/000002-raw/model"):
        decide(root)
    assert crown.unfinished_promotion(store) == 0 and in_force(root) == "runs/000002-raw/model"


def test_a_champion_that_somebody_put_back_after_an_approval_stays(root: str, world: dict[str, Any]):
    decide(root)
    open_store(root).delete("champion.json")
    next_plan(root, world)
    assert in_force(root) == ""
