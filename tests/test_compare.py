"""Models side by side: which are found by what people call them, and what is said of their differences."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from hqclip import cli
from hqclip.cycle.keys import record_key
from hqclip.data.outcomes import Outcomes, write_outcomes
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.flags import Parser
from hqclip.records import BenchmarkScore, Champion, CycleRecord, Evaluation
from hqclip.store import Store, open_store
from pipelines.client import compare
from tests.fakes.kubeflow import FakeKubeflow
from tests.recording import tell

ITEMS = 200


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two cycles: raw is right on 80 of 200 items, hqclip on 120, the second cycle's hqclip on 124."""
    store = open_store(str(tmp_path / "store"))
    for run, right in (("000001-raw", 80), ("000001-hqclip", 120), ("000002-hqclip", 124)):
        judge(store, run, right)
    close(store, 1, ["000001-raw", "000001-hqclip"], "000001-hqclip")
    close(store, 2, ["000002-hqclip"], "000002-hqclip")
    return store


def judge(store: Store, run: str, right: int, suite: str = "suite", *, with_outcomes: bool = True) -> str:
    """A trained run whose model was right on that many items; the key of its evaluation."""
    outcomes = f"evaluations/d-{run}/{suite}.outcomes.parquet"
    if with_outcomes:
        values = np.array([1.0] * right + [0.0] * (ITEMS - right))
        write_outcomes(store, outcomes, Outcomes({"quiz/accuracy": values}, {"quiz/accuracy": np.full(ITEMS, "all")}))
    share = right / ITEMS
    score = BenchmarkScore("quiz", "choice", {"accuracy": share, "main": share}, "main", ITEMS, (0.0, 1.0))
    evaluation = Evaluation(
        model=f"runs/{run}/model",
        model_digest=f"d-{run}",
        suite="quiz",
        suite_digest=suite,
        benchmarks=(score,),
        average=share,
        outcomes=outcomes,
    )
    key = f"evaluations/d-{run}/{suite}.json"
    store.write(key, evaluation.to_json())
    if not store.exists(f"runs/{run}/result.json"):
        store.write(f"runs/{run}/result.json", json.dumps({"model_digest": f"d-{run}"}).encode())
    return key


def close(store: Store, cycle: int, runs: Sequence[str], candidate: str) -> None:
    found = [
        {
            "name": run.partition("-")[2],
            "run": f"runs/{run}",
            "model_digest": f"d-{run}",
            "evaluation": "",
            "average": 0,
        }
        for run in runs
    ]
    record = CycleRecord(
        cycle=cycle,
        parent=0,
        fingerprint="f",
        dataset="datasets/d/dataset.json",
        runs=tuple(found),
        candidate=f"runs/{candidate}/model",
        verdict="promoted",
        reason="",
        report="",
    )
    store.write(record_key(cycle), record.to_json())


def run(store: Store | None, *words: str) -> int:
    parser = Parser()
    compare.add_arguments(parser)
    return compare.run(parser.parse_args([*words, *(["--store", store.uri] if store else [])]))


def rows(capsys: pytest.CaptureFixture[str]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["metric"], row["run"]): row for row in json.loads(capsys.readouterr().out)}


def test_a_cycle_is_its_candidate_and_each_of_its_runs_has_a_name(store: Store, capsys: pytest.CaptureFixture[str]):
    assert run(store, "1/raw", "1", "-o", "json") == 0
    found = rows(capsys)
    base, better = found["accuracy", "cycle 1: raw"], found["accuracy", "cycle 1: hqclip"]
    assert (base["value"], base["difference"]) == (0.4, None)
    assert better["difference"] == pytest.approx(0.2)
    assert 0.1 < better["low"] < 0.2 < better["high"] < 0.3
    assert found["average", "cycle 1: hqclip"]["difference"] == pytest.approx(0.2)


def test_hqclip_says_the_same_without_a_cluster(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(store, "1/raw", "1", "-o", "json")
    shown = json.loads(capsys.readouterr().out)
    page = tmp_path / "pages/page.html"
    assert cli.main(["compare", "--store", store.uri, "--runs", "1/raw,1", "--html", str(page)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["metrics"] == shown
    assert (result["suite"], result["has_intervals"]) == ("suite", True)
    assert "| choice: accuracy |" in result["table"]
    assert f"hqclip compare --store {store.uri} --runs 1/raw,1 --suite suite" in page.read_text()


def test_a_table_is_for_people(store: Store, capsys: pytest.CaptureFixture[str]):
    run(store, "runs/000001-raw", "runs/000002-hqclip/model")
    out = capsys.readouterr().out
    assert "| choice: accuracy |" in out
    assert "62.0% (+22.0;" in out


def test_evaluations_the_champion_and_sweeps_are_found(store: Store, capsys: pytest.CaptureFixture[str]):
    crown = Champion(model="runs/000002-hqclip/model", model_digest="d-000002-hqclip", evaluation="", cycle=2)
    store.write("champion.json", crown.to_json())
    keys = {name: judge(store, f"sweep-ab-{name}", right) for name, right in (("lr-0.1", 90), ("lr-0.2", 100))}
    trials = [{"name": name, "evaluation": key} for name, key in keys.items()]
    store.write("sweeps/ab.json", json.dumps({"points": trials}).encode())
    run(store, "champion", "evaluations/d-000001-raw/suite.json", "sweeps/ab", "-o", "yaml")
    found = yaml.safe_load(capsys.readouterr().out)
    averages = {row["run"]: row["value"] for row in found if row["metric"] == "average"}
    assert averages == {"champion": 0.62, "000001-raw": 0.4, "lr-0.1": 0.45, "lr-0.2": 0.5}


def test_without_outcomes_the_scores_stand_alone(store: Store, capsys: pytest.CaptureFixture[str]):
    judge(store, "000003-old", 100, with_outcomes=False)
    run(store, "1", "runs/000003-old", "-o", "json")
    out, err = capsys.readouterr()
    row = next(row for row in json.loads(out) if (row["metric"], row["run"]) == ("accuracy", "000003-old"))
    assert (row["value"], row["difference"]) == (0.5, None)
    run(store, "1", "runs/000003-old")
    out, err = capsys.readouterr()
    assert "50.0%" in out
    assert "there are no intervals" in err


def test_the_page_shows_the_same(store: Store, tmp_path: Path):
    page = tmp_path / "page.html"
    run(store, "1/raw", "1", "--html", str(page))
    html = page.read_text()
    assert "cycle 1: raw against cycle 1: hqclip" in html
    assert "+20.0" in html
    assert "d-000001-hqclip" in html
    assert "<script" not in html


def test_models_are_compared_on_a_suite_that_all_were_judged_on(store: Store, capsys: pytest.CaptureFixture[str]):
    judge(store, "000001-raw", 10, suite="hard")
    judge(store, "000001-hqclip", 30, suite="hard")
    with pytest.raises(ConfigError, match="share several suites; choose one with --suite"):
        run(store, "1/raw", "1")
    run(store, "1/raw", "1", "--suite", "hard", "-o", "json")
    assert rows(capsys)["average", "cycle 1: hqclip"]["value"] == 0.15
    run(store, "1", "2", "-o", "json")  # only one suite is shared
    judge(store, "000009-other", 10, suite="another")
    with pytest.raises(DataError, match="share no suite; evaluate them on one"):
        run(store, "2", "runs/000009-other")


@pytest.mark.parametrize(
    ("words", "kind", "complaint"),
    [
        (("1", "7"), NotFoundError, "no cycles/000007.json: cycle 7 is not done"),
        (("1", "1/mixed"), NotFoundError, "cycle 1 has no run 'mixed'; it has raw, hqclip"),
        (("1", "runs/nothing"), NotFoundError, "there is no such run, or it is not done"),
        (("1", "sweeps/cd"), NotFoundError, "there is no such sweep"),
        (("1", "1"), ConfigError, "the same run is named twice"),
        (("1", "something"), ConfigError, "'something' names nothing to compare"),
    ],
)
def test_what_cannot_be_compared_is_refused(store: Store, words: Sequence[str], kind: type[Exception], complaint: str):
    with pytest.raises(kind, match=complaint):
        run(store, *words)


def test_a_run_that_was_not_judged_yet_says_how(store: Store):
    store.write("runs/000004-new/result.json", b'{"model_digest": "unjudged"}')
    with pytest.raises(NotFoundError, match="was not judged yet; run `hqclip evaluate"):
        run(store, "1", "runs/000004-new")


def test_a_store_must_be_given_for_what_is_in_one():
    with pytest.raises(ConfigError, match="--store is missing"):
        run(None, "1", "2")


def started(kubeflow: FakeKubeflow, **inputs: str) -> str:
    """A run of a package with these inputs; its id."""
    experiment = "e"
    kinds = {name: {"parameterType": "STRING"} for name in inputs}
    kubeflow.experiments[experiment] = {"experiment_id": experiment, "display_name": "e"}
    body = {
        "display_name": "run",
        "experiment_id": experiment,
        "pipeline_spec": {"root": {"inputDefinitions": {"parameters": kinds}}},
        "runtime_config": {"parameters": inputs},
    }
    return str(kubeflow.new_run(body, "run")["run_id"])


@pytest.fixture
def made(store: Store, kubeflow: FakeKubeflow) -> Callable[..., str]:
    """A run whose tasks wrote down what they decided; its id."""

    def make(**decided: dict[str, Any]) -> str:
        run_id = started(kubeflow, store=store.uri)
        for stage, words in decided.items():
            tell(store, run_id, stage, 0.0, decided=words)
        return run_id

    return make


def test_runs_on_the_cluster_are_the_cycles_that_they_made(
    store: Store, made: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    first, second = (made(plan={"cycle": cycle, "has_work": True, "trials": ["hqclip"]}) for cycle in (1, 2))
    run(None, first, second, "-o", "json")
    assert rows(capsys)["average", "cycle 2: hqclip"]["value"] == 0.62
    again = made(plan={"cycle": 2, "has_work": False, "trials": ["hqclip"]})  # there was nothing to do: all is there
    run(None, first, again, "-o", "json")
    assert ("average", "cycle 2: hqclip") in rows(capsys)
    unfinished = made(plan={"cycle": 3, "has_work": True, "trials": ["hqclip"]})
    with pytest.raises(NotFoundError, match="cycle 3 is not done"):
        run(None, first, unfinished)


def test_a_run_that_made_nothing_to_compare_says_why(store: Store, kubeflow: FakeKubeflow, made: Callable[..., str]):
    for decided, why in (
        ({}, ""),
        ({"plan": {"cycle": 2, "has_work": True, "trials": []}}, ""),
        ({"plan": {"cycle": 2, "trials": ["raw"], "locked_by": "run 7"}}, ": it was kept out by run 7"),
    ):
        with pytest.raises(NotFoundError, match=f"has judged no model of .*{why}; see `python -m pipelines status"):
            run(None, "1", made(**decided))


def test_runs_of_one_store_are_compared(store: Store, kubeflow: FakeKubeflow, made: Callable[..., str], tmp_path: Path):
    first = made(plan={"cycle": 1, "trials": ["raw"]})
    another = open_store(str(tmp_path / "another"))
    elsewhere = started(kubeflow, store=another.uri)
    tell(another, elsewhere, "plan", 0.0, decided={"cycle": 1, "trials": ["raw"]})
    with pytest.raises(ConfigError, match="are of different stores"):
        run(None, first, elsewhere)
    with pytest.raises(ConfigError, match="are of different stores"):
        run(another, first, "1")
    with pytest.raises(ConfigError, match="has no input `store`: it is none of ours"):
        run(None, first, started(kubeflow, epochs="3"))


def test_runs_of_a_sweep_are_its_trials(store: Store, made: Callable[..., str], capsys: pytest.CaptureFixture[str]):
    ids = []
    for digest, name, right in (("ab", "lr-0.1", 90), ("cd", "lr-0.2", 100)):
        done = {"points": [{"name": name, "evaluation": judge(store, f"sweep-{digest}-{name}", right)}]}
        store.write(f"sweeps/{digest}.json", json.dumps(done).encode())
        ids.append(made(sweep={"plan": f"sweeps/{digest}.plan.json", "has_work": True}))
    run(None, *ids, "-o", "json")
    assert rows(capsys)["average", "lr-0.2"]["difference"] == pytest.approx(0.05)
    with pytest.raises(NotFoundError, match=r"no sweeps/ef.json: there is no such sweep, or it is not done"):
        run(None, ids[0], made(sweep={"plan": "sweeps/ef.plan.json"}))


def test_a_run_that_only_judged_is_its_model(
    store: Store, made: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    model = {"model": "runs/000001-raw/model"}
    evaluation = "evaluations/d-000001-raw/suite.json"
    for run_id in (
        made(plan_evaluation={**model, "has_work": True}, evaluate={"evaluation": evaluation}),
        made(plan_evaluation={**model, "has_work": False}),
    ):
        run(None, "1", run_id, "-o", "json")
        assert ("average", "000001-raw") in rows(capsys)
