"""Who is in force after a cycle, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hqclip.cycle.crown import put_in_force
from hqclip.cycle.keys import plan_key
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.promote import _gate
from hqclip.data.outcomes import Outcomes, write_outcomes
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import BenchmarkScore, Champion, CyclePlan, CycleRecord, Evaluation
from hqclip.store import Store, open_store

PLAN = CyclePlan(cycle=2, fingerprint="f", champion=None, settings={}, trials=())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


def judged(store: Store, name: str, right: int, suite: str = "suite") -> Evaluation:
    """An evaluation of a model that was right on that many of 200 items."""
    values = np.array([1.0] * right + [0.0] * (200 - right))
    outcomes = f"evaluations/{name}/{suite}.outcomes.parquet"
    write_outcomes(store, outcomes, Outcomes({"quiz/accuracy": values}, {"quiz/accuracy": np.full(200, "all")}))
    score = BenchmarkScore("quiz", "choice", {"main": right / 200}, "main", 200, (0.0, 1.0))
    evaluation = Evaluation(
        model=f"runs/{name}/model",
        model_digest=name,
        suite="quiz",
        suite_digest=suite,
        benchmarks=(score,),
        average=right / 200,
        outcomes=outcomes,
    )
    store.write(f"evaluations/{name}/{suite}.json", evaluation.to_json())
    return evaluation


FIRST = replace(PLAN, cycle=1)


def against(champion: str, cycle: int = 2) -> CyclePlan:
    before = {"model": f"runs/{champion}/model", "model_digest": champion, "cycle": 1}
    return replace(PLAN, cycle=cycle, champion=before)


def closed(name: str, cycle: int = 2) -> CycleRecord:
    run = {"name": name, "run": f"runs/{name}", "model_digest": name, "evaluation": "e", "average": 0.5}
    return CycleRecord(
        cycle=cycle,
        parent=0,
        fingerprint="f",
        dataset="",
        runs=(run,),
        candidate=f"runs/{name}/model",
        verdict="promoted",
        reason="",
        report="",
    )


def test_the_first_candidate_is_promoted(store: Store):
    wins, reason = _gate(store, PLAN, judged(store, "new", 100), 0.01)
    assert wins
    assert "there was no champion before" in reason


def test_a_better_candidate_wins_by_the_margin_only(store: Store):
    judged(store, "old", 100)
    candidate = judged(store, "new", 104)
    wins, reason = _gate(store, against("old"), candidate, 0.01)
    assert wins
    assert "average 52.0% against 50.0% of the champion, difference +2.0%" in reason
    wins, reason = _gate(store, against("old"), candidate, 0.03)
    assert not wins
    assert reason.endswith("less than the margin of 3.0%")


def test_a_champion_that_was_not_judged_on_this_suite_must_be_first(store: Store):
    judged(store, "old", 100, suite="another")
    with pytest.raises(NotFoundError, match=r"hqclip evaluate .* --model runs/old/model"):
        _gate(store, against("old"), judged(store, "new", 100), 0.01)


def test_the_pointer_moves_from_the_champion_that_the_plan_saw(store: Store):
    put_in_force(store, FIRST, closed("first", 1))
    put_in_force(store, against("first"), closed("second"))
    assert Champion.from_json(store.read("champion.json"), "").model_digest == "second"
    put_in_force(store, against("first"), closed("second"))  # the same again is a success: the first try was cut off


def test_a_champion_that_changed_meanwhile_is_left_in_force(store: Store):
    put_in_force(store, FIRST, closed("first", 1))
    put_in_force(store, against("first", 7), closed("somebody else's", 7))
    with pytest.raises(
        ConflictError, match="champion.json became runs/somebody else's/model .cycle 7. while cycle 2 ran"
    ):
        put_in_force(store, against("first"), closed("second"))
    assert Champion.from_json(store.read("champion.json"), "").cycle == 7


def test_a_champion_of_long_ago_is_not_put_in_force_again(store: Store):
    for plan, name in ((FIRST, "first"), (against("first"), "second")):
        store.write(plan_key(plan.cycle), plan.to_json())
        put_in_force(store, plan, closed(name, plan.cycle))
    put_in_force(store, FIRST, closed("first", 1))
    assert Champion.from_json(store.read("champion.json"), "").model_digest == "second"


def test_models_judged_on_different_suites_are_not_compared(store: Store):
    pair = {"old": judged(store, "old", 100, suite="another"), "new": judged(store, "new", 100)}
    with pytest.raises(DataError, match=r"different suites \(another, suite\)"):
        PairedComparison.read(store, pair)


def test_plans_of_cycles_sort_by_number():
    assert sorted(map(plan_key, (10, 9, 100))) == [plan_key(9), plan_key(10), plan_key(100)]
