"""Pipelines as a person runs them: cycles, nothing to do, a sweep with a bad trial, a judgement."""

from __future__ import annotations

import json
import sys

import pytest

from tests.cluster.place import Done, Place
from tests.cluster.runs import World, ended, run_id, started, tasks, until

pytestmark = pytest.mark.needs("kubeflow", "store", "images")
STAGES = {"plan", "download", "annotate", "score", "curate", "train-hqclip", "evaluate-hqclip", "promote"}


def test_what_is_uploaded_twice_is_one_version(place: Place) -> None:
    """The same upload twice is one version."""
    first, again = (place.pipelines("upload", "refine", "-o", "json").ok().json for _ in range(2))
    assert first["version"] == again["version"]


def test_a_cycle_ends_well(cycle: Done) -> None:
    """A refinement cycle: --wait ends with 0 and says what was promoted."""
    cycle.ok()
    assert "promoted" in cycle.err


def test_its_tasks(place: Place, cycle: Done) -> None:
    """status: every task of ours once, by its trial's name, all succeeded."""
    states = tasks(place, run_id(cycle))
    assert set(states) >= STAGES
    assert set(states.values()) == {"SUCCEEDED"}
    assert len(states) <= 10


def test_what_its_tasks_said(place: Place, cycle: Done) -> None:
    """logs: our lines of one task, and no others."""
    said = place.pipelines("logs", run_id(cycle), "--task", "train-hqclip").ok().out.splitlines()
    assert said and all("[train-hqclip]" in line for line in said)
    assert not [line for line in said if "executor_input" in line]
    assert any("hqclip train" in line for line in said)


def test_nothing_to_explain(place: Place, cycle: Done) -> None:
    """explain: of a good run, that nothing failed."""
    assert place.pipelines("explain", run_id(cycle), "-o", "json").ok().json["reasons"] == []


def test_a_cycle_with_nothing_new(place: Place, world: World, cycle: Done) -> None:
    """The same run again: ends well at once, and says that there was nothing to do."""
    again = ended(place, "refine", world.refine)
    again.ok()
    assert tasks(place, run_id(again))["plan"] == "SUCCEEDED"
    assert "train-hqclip" not in {name for name, state in tasks(place, run_id(again)).items() if state == "SUCCEEDED"}
    assert "nothing" in again.err


def test_a_second_cycle_with_several_trials(place: Place, world: World, cycle: Done) -> None:
    """A second cycle, scored by the first one's champion, with two trials."""
    second = ended(place, "refine", {**world.refine, "plan_cycle": 2, "train_trials": "raw,hqclip", "train_seed": 1})
    second.ok()
    states = tasks(place, run_id(second))
    assert {states["train-raw"], states["train-hqclip"], states["promote"]} == {"SUCCEEDED"}


def test_one_model_is_judged(place: Place, world: World, cycle: Done) -> None:
    """evaluate: the champion on a suite."""
    done = ended(place, "evaluate", {name: world.refine[name] for name in ("store", "evaluate_suite", "plan_preset")})
    done.ok()
    assert tasks(place, run_id(done))["evaluate"] == "SUCCEEDED"


def test_a_sweep_with_a_bad_trial(place: Place, world: World, cycle: Done) -> None:
    """A sweep of three trials, one of which fails: the others are ranked, the failed one is named."""
    trials = [{"name": name, "settings": {"learning_rate": rate}} for name, rate in RATES.items()]
    inputs = {name: world.refine[name] for name in ("store", "evaluate_suite", "plan_preset")}
    overrides = {"train.samples_seen": world.refine["train_samples_seen"]}
    texts = {"sweep_trials": json.dumps(trials), "plan_overrides": json.dumps(overrides)}
    run = started(place, "sweep", {**inputs, **texts})
    until(lambda: tasks(place, run).get("sweep") == "SUCCEEDED", 300)
    place.run(sys.executable, "-c", TAKEN, world.store).ok()

    until(lambda: tasks(place, run).get("select") == "FAILED", 900)
    states = tasks(place, run)
    assert states["evaluate-low"] == states["evaluate-high"] == "SUCCEEDED"
    why = place.pipelines("explain", run, "-o", "json").ok().json
    assert [(each["task"], each["reason"]) for each in why["reasons"]][:1] == [("train-bad", "conflict")]
    assert "bad" in why["reasons"][0]["line"]
    assert place.run(sys.executable, "-c", RANKED, world.store).ok().out.split() == ["high", "low"]


RATES = {"low": 0.0005, "high": 0.001, "bad": 0.002}
TAKEN = """
import sys; from hqclip.store import open_store
store = open_store(sys.argv[1])
plan = next(key for key in store.list("sweeps/") if key.endswith(".plan.json"))
store.write(f"runs/sweep-{plan.removeprefix('sweeps/')[:8]}-bad/config.json", b'{"seed": 99}')
"""  # the name of the run is another's
RANKED = """
import json, sys; from hqclip.store import open_store
store = open_store(sys.argv[1])
(key,) = [key for key in store.list("sweeps/") if key.endswith(".json") and key.count("/") == 1 and ".plan." not in key]
print(*sorted(row["name"] for row in json.loads(store.read(key))["points"]))
"""
