"""Who is in force after a cycle, and why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hqclip.config import PromoteConfig
from hqclip.cycle.crown import put_in_force
from hqclip.cycle.gate import judge
from hqclip.cycle.keys import plan_key
from hqclip.cycle.paired import PairedComparison
from hqclip.data.outcomes import Outcomes, write_outcomes
from hqclip.errors import ConfigError, ConflictError, DataError, NotFoundError
from hqclip.records import BenchmarkScore, Champion, CyclePlan, CycleRecord, Evaluation
from hqclip.store import Store, open_store

PLAN = CyclePlan(cycle=2, fingerprint="f", champion=None, settings={}, trials=())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path))


@pytest.fixture
def whole_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is read: each is as it was judged."""
    monkeypatch.setattr("hqclip.exported.check_files", lambda *_: None)


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


def asked(margin: float, **bars: Any) -> PromoteConfig:
    return PromoteConfig.from_mapping({"store": "s", "plan": "p", "dataset": "d", "margin": margin, **bars})


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
    wins, reason, _ = judge(store, PLAN, judged(store, "new", 100), asked(0.01))
    assert wins
    assert "there was no champion before" in reason


def test_a_better_candidate_wins_by_the_margin_only(store: Store):
    judged(store, "old", 100)
    candidate = judged(store, "new", 104)
    wins, reason, _ = judge(store, against("old"), candidate, asked(0.01))
    assert wins
    assert "average 52.0% against 50.0% of the champion, difference +2.0%" in reason
    wins, reason, _ = judge(store, against("old"), candidate, asked(0.03))
    assert not wins
    assert reason.endswith("less than the margin of 3.0%")


def test_a_champion_that_was_not_judged_on_this_suite_must_be_first(store: Store):
    judged(store, "old", 100, suite="another")
    with pytest.raises(NotFoundError, match=r"hqclip evaluate .* --model runs/old/model"):
        judge(store, against("old"), judged(store, "new", 100), asked(0.01))


def suite_of(store: Store, name: str, right: dict[str, int]) -> Evaluation:
    """An evaluation of a model that was right on so many of 200 items of each benchmark."""
    values = {f"{one}/accuracy": np.array([1.0] * n + [0.0] * (200 - n)) for one, n in right.items()}
    outcomes = f"evaluations/{name}/suite.outcomes.parquet"
    write_outcomes(store, outcomes, Outcomes(values, {one: np.full(200, "all") for one in values}))
    scores = [BenchmarkScore(one, "choice", {"main": n / 200}, "main", 200, (0.0, 1.0)) for one, n in right.items()]
    evaluation = Evaluation(
        model=f"runs/{name}/model",
        model_digest=name,
        suite="quizzes",
        suite_digest="suite",
        benchmarks=tuple(scores),
        average=float(np.mean(list(right.values()))) / 200,
        outcomes=outcomes,
    )
    store.write(f"evaluations/{name}/suite.json", evaluation.to_json())
    return evaluation


def test_a_better_average_does_not_make_up_for_a_benchmark_that_fell_too_far(store: Store):
    suite_of(store, "old", {"coco": 100, "imagenet": 100})
    candidate = suite_of(store, "new", {"coco": 98, "imagenet": 120})
    passed, reason, bars = judge(
        store, against("old"), candidate, asked(0.01, max_drop="coco=0.01", floor="imagenet=0.6")
    )
    assert passed  # a fall of exactly what is allowed, and a floor that is just reached
    assert [(bar.rule, bar.metric, bar.champion, bar.candidate) for bar in bars] == [
        ("margin", "average", 0.5, 0.545),
        ("floor", "imagenet", 0.5, 0.6),
        ("max_drop", "coco", 0.5, 0.49),
    ]
    passed, reason, bars = judge(store, against("old"), candidate, asked(0.01, max_drop="coco=0.009,imagenet=0.0"))
    assert [bar.passed for bar in bars] == [True, False, True] and not passed
    assert reason.endswith("at least the margin of 1.0%; coco fell by 1.00%, of which 0.90% is allowed")
    value, low, high = bars[1].difference or (0, 0, 0)
    assert low <= value <= high and value == pytest.approx(-0.01)


def test_a_floor_holds_for_the_first_model_too(store: Store):
    candidate = suite_of(store, "new", {"coco": 98, "imagenet": 120})
    passed, reason, bars = judge(store, PLAN, candidate, asked(0.01, floor="imagenet=0.7,coco=0.4", max_drop="coco=0"))
    assert not passed and [bar.passed for bar in bars] == [True, False, True]
    assert reason.endswith("has the best average, 54.5%; imagenet has 60.00%, less than its floor of 70.00%")


def test_a_bar_for_a_benchmark_that_was_not_judged_is_named(store: Store):
    candidate = suite_of(store, "new", {"coco": 98, "imagenet": 120})
    with pytest.raises(ConfigError) as error:
        judge(store, PLAN, candidate, asked(0.01, floor="imagent=0.7", max_drop="cocoa=0.1"))
    assert str(error.value).splitlines() == [
        "promote.floor names 'imagent', which the suite does not have; did you mean 'imagenet'?; it has coco, imagenet",
        "promote.max_drop names 'cocoa', which the suite does not have; did you mean 'coco'?; it has coco, imagenet",
    ]


@pytest.mark.parametrize("bar", ["imagenet", "imagenet=", "=0.5", "imagenet=70", "imagenet=-0.1", "imagenet=high"])
def test_a_bar_that_is_none_is_refused(bar: str):
    with pytest.raises(ConfigError, match=f"floor: '{bar}' is not like imagenet=0.70"):
        asked(0.01, floor=bar)
    with pytest.raises(ConfigError, match="max_drop names 'coco' twice"):
        asked(0.01, max_drop="coco=0.1,coco=0.2")


@pytest.mark.usefixtures("whole_models")
def test_the_pointer_moves_from_the_champion_that_the_plan_saw(store: Store):
    put_in_force(store, FIRST, closed("first", 1))
    put_in_force(store, against("first"), closed("second"))
    assert Champion.from_json(store.read("champion.json"), "").model_digest == "second"
    put_in_force(store, against("first"), closed("second"))  # the same again is a success: the first try was cut off


@pytest.mark.usefixtures("whole_models")
def test_a_champion_that_changed_meanwhile_is_left_in_force(store: Store):
    put_in_force(store, FIRST, closed("first", 1))
    put_in_force(store, against("first", 7), closed("somebody else's", 7))
    with pytest.raises(
        ConflictError, match="champion.json became runs/somebody else's/model .cycle 7. while cycle 2 ran"
    ):
        put_in_force(store, against("first"), closed("second"))
    assert Champion.from_json(store.read("champion.json"), "").cycle == 7


@pytest.mark.usefixtures("whole_models")
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
