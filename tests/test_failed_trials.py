"""A trial that fails takes neither the others nor their report with it, and is told at the end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.config import DemoWorldConfig, SelectConfig, SweepConfig
from hqclip.cycle import select, sweep
from hqclip.cycle.keys import notes_prefix, plan_key, record_key
from hqclip.demo.world import make_world
from hqclip.errors import (
    ConfigError,
    DataError,
    HQClipError,
    NotFoundError,
    StoppedError,
    TerminatedError,
    TrialsFailedError,
    UnavailableError,
)
from hqclip.records import Champion, CycleRecord, FailedTrial, Sample
from hqclip.store import Store, open_store
from hqclip.task import run_first, run_planned
from pipelines.compiling import compile_pipeline
from pipelines.local import Runner
from tests.cycle import TINY
from tests.promoting import config_of, judge, make_cycle, train
from tests.training import tiny_run

NOTES = notes_prefix(1)


@pytest.fixture
def samples(scene_jpeg: Callable[[int], bytes]) -> list[Sample]:
    return [Sample(f"{n:032x}", scene_jpeg(n), f"a photo {n}") for n in range(24)]


class Task:
    """Runs stages as the tasks of a cycle of the trials raw and hqclip, whose plan and results are files."""

    def __init__(self, folder: Path, root: str, trials: tuple[str, ...] = ("raw", "hqclip")) -> None:
        self.folder, self.root = folder, root
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "train": {"store": root, "dataset": "-", "model": "shapes"},
            "evaluate": {"store": root, "suite": "s"},
            "promote": {"store": root, "plan": plan_key(1), "margin": 0.005},
        }
        planned = {
            "settings": settings,
            "trials": [{"name": name, "settings": {}} for name in trials],
            "machines": {},
            "runs": "000001-",
            "notes": NOTES,
        }
        self.write("plan", planned)

    def write(self, name: str, content: Any) -> str:
        (self.folder / name).write_text(json.dumps(content))
        return str(self.folder / name)

    def run(self, stage: str, *before: str, trial: str = "", **outputs: Any) -> dict[str, Any]:
        of = {"name": trial, "settings": {}} if trial else None
        to = str(self.folder / f"{stage}-{trial}")
        return run_planned(stage, str(self.folder / "plan"), before, trial=of, write_to=to, **outputs)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return Task(tmp_path / "task", str(tmp_path / "store"))


def failing(monkeypatch: pytest.MonkeyPatch, fault: BaseException) -> list[str]:
    """Every stage raises this; the stages that were asked for."""
    asked: list[str] = []

    def fail(name: str, settings: Any) -> Any:
        asked.append(name)
        raise fault

    monkeypatch.setattr("hqclip.task.run_stage", fail)
    return asked


FAULTS = [
    (ConfigError("batch_size is wrong"), 64, "setting"),
    (DataError("loss is nan"), 65, "data"),
    (NotFoundError("no shard"), 66, "not_found"),
    (UnavailableError("no answer"), 69, "service"),
    (StoppedError("lost its lease"), 75, "stopped"),
    (RuntimeError("a bug"), 1, "bug"),
    (MemoryError(), 1, "bug"),
]


@pytest.mark.parametrize(("fault", "code", "reason"), FAULTS, ids=[type(fault).__name__ for fault, _, _ in FAULTS])
def test_a_trial_that_fails_ends_well_and_says_so_in_the_store_and_to_who_would_judge_it(
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: Exception,
    code: int,
    reason: str,
):
    monkeypatch.setenv("HQCLIP_TASK_TRIES", "1")
    asked = failing(monkeypatch, fault)
    data = task.write("curated", {"dataset": "d"})
    assert task.run("train", data, trial="raw")["failed"]["exit_code"] == code
    assert "trial raw failed in train" in capsys.readouterr().err
    key = f"{NOTES}failed/raw.json"
    kept = FailedTrial.from_json(open_store(task.root).read(key), key)
    assert (kept.trial, kept.stage, kept.exit_code, kept.reason) == ("raw", "train", code, reason)
    assert str(fault) in kept.error
    judged = task.run("evaluate", str(task.folder / "train-raw"))
    assert judged["failed"]["trial"] == "raw" and asked == ["train"]
    assert json.loads((task.folder / "evaluate-").read_text()) == judged
    assert "nothing to do: trial raw failed in train" in capsys.readouterr().err


def test_a_model_that_cannot_be_judged_fails_its_trial_alone(task: Task, monkeypatch: pytest.MonkeyPatch):
    failing(monkeypatch, DataError("an image is damaged"))
    trained = task.write("trained", {"model": "runs/000001-hqclip/model", "run": "runs/000001-hqclip"})
    assert task.run("evaluate", trained)["failed"] | {"error": ""} == {
        "trial": "hqclip",
        "stage": "evaluate",
        "exit_code": 65,
        "reason": "data",
        "error": "",
    }


@pytest.mark.parametrize("fault", [TerminatedError("SIGTERM"), KeyboardInterrupt()])
def test_what_was_stopped_from_outside_fails_its_pod_so_that_it_runs_again(
    task: Task, monkeypatch: pytest.MonkeyPatch, fault: BaseException
):
    failing(monkeypatch, fault)
    with pytest.raises((SystemExit, KeyboardInterrupt)):
        task.run("train", task.write("curated", {"dataset": "d"}), trial="raw")
    assert not open_store(task.root).exists(f"{NOTES}failed/raw.json")


def test_where_there_are_no_trials_a_fault_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    task = Task(tmp_path / "task", str(tmp_path / "store"), trials=())
    failing(monkeypatch, DataError("an image is damaged"))
    with pytest.raises(SystemExit) as end:
        task.run("evaluate", task.write("trained", {"model": "runs/x/model"}))
    assert end.value.code == 65


def test_a_trial_that_goes_well_this_time_failed_no_more(task: Task, monkeypatch: pytest.MonkeyPatch):
    data = task.write("curated", {"dataset": "d"})
    failing(monkeypatch, DataError("loss is nan"))
    task.run("train", data, trial="raw")
    monkeypatch.setattr("hqclip.task.run_stage", lambda name, settings: {"model": "runs/000001-raw/model"})
    assert "failed" not in task.run("train", data, trial="raw")
    assert not open_store(task.root).exists(f"{NOTES}failed/raw.json")


def fail_trial(store: Store, notes: str, trial: str, error: str = "loss is <nan> | more", code: int = 65) -> None:
    failed = FailedTrial(trial=trial, stage="train", exit_code=code, reason="data", error=error)
    store.write(f"{notes}failed/{trial}.json", failed.to_json())


def promote(task: Task, *evaluations: str) -> SystemExit:
    """The task that ends a cycle, with its page and its card; how it failed."""
    data = config_of(task.root).dataset
    results = [task.write("curated", {"dataset": data})]
    results += [task.write(f"e{n}", {"evaluation": key}) for n, key in enumerate(evaluations)]
    results.append(task.write("failed", {"failed": {"trial": "raw"}, "reason": "-"}))
    to = {"page": str(task.folder / "page.html"), "card": str(task.folder / "card.md")}
    with pytest.raises(SystemExit) as end:
        task.run("promote", *results, **to)
    return end.value


def test_the_good_trial_of_a_cycle_is_promoted_and_the_failed_one_is_told(
    tmp_path: Path, samples: list[Sample], capsys: pytest.CaptureFixture[str]
):
    task = Task(tmp_path / "task", make_cycle(tmp_path, samples))
    store = open_store(task.root)
    (good,) = (key for key in config_of(task.root).evaluations if b"000001-hqclip" in store.read(key))
    fail_trial(store, NOTES, "raw")
    for _ in range(2):  # a lost pod runs again, though the cycle is closed then
        end = promote(task, good)
        assert end.code == 65
        said = capsys.readouterr().err
        assert "trial raw failed in train (exit code 65): loss is <nan>" in said and "plan_cycle=2" in said
    record = CycleRecord.from_json(store.read(record_key(1)), "record")
    assert [run["name"] for run in record.runs] == ["hqclip"] and record.failed[0]["trial"] == "raw"
    assert Champion.from_json(store.read("champion.json"), "champion").model == "runs/000001-hqclip/model"
    assert store.exists(f"{NOTES}promote.json")
    assert "loss is &lt;nan&gt;" in (task.folder / "page.html").read_text()
    assert "| raw | train | 65 | loss is <nan> / more |" in (task.folder / "card.md").read_text()


def test_a_cycle_of_which_all_trials_failed_stays_open_and_says_why(
    tmp_path: Path, samples: list[Sample], capsys: pytest.CaptureFixture[str]
):
    task = Task(tmp_path / "task", make_cycle(tmp_path, samples))
    store = open_store(task.root)
    fail_trial(store, NOTES, "raw", "first", code=66)
    fail_trial(store, NOTES, "hqclip", "second")
    assert promote(task).code == 66
    said = capsys.readouterr().err
    assert "none of its trials has scores" in said and "first" in said and "second" in said
    assert not store.exists(record_key(1)) and not store.exists("champion.json")


def test_evaluations_that_are_not_named_are_those_that_the_tasks_noted(tmp_path: Path, samples: list[Sample]):
    from dataclasses import replace

    from hqclip.cycle import promote as stage

    root = make_cycle(tmp_path, samples)
    found = stage.run(replace(config_of(root), evaluations=()))
    assert set(found["averages"]) == {"raw", "hqclip"}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> str:
    world = make_world(DemoWorldConfig(store=str(tmp_path_factory.mktemp("world")), images=12, scenes=8))
    return str(world["suite"])


def test_a_sweep_ranks_the_others_and_tries_just_the_failed_one_again(
    tmp_path: Path, samples: list[Sample], suite: str
):
    given = tiny_run(tmp_path, samples)
    store = open_store(given.store)
    tried = json.dumps({"train.seed": [1, 2, 3]})
    more = '{"train.batch_size": 8}'
    config = SweepConfig(
        store=given.store, suite=suite, trials=tried, dataset=given.dataset, preset="demo-quick", overrides=more
    )
    planned = sweep.run(config)
    judged = {seed: judge(store, train(store, f"{planned['runs']}seed-{seed}"), 80 + seed) for seed in (2, 3)}
    fail_trial(store, planned["notes"], "seed-1")
    chosen = SelectConfig(store=given.store, plan=planned["plan"], evaluations=tuple(judged.values()))
    found = select.run(chosen)
    assert (found["best"], [row["name"] for row in found["points"]]) == ("seed-3", ["seed-2", "seed-3"])
    assert [one["trial"] for one in found["failed"]] == ["seed-1"]
    assert "loss is &lt;nan&gt;" in store.read(found["report"]).decode()
    again = sweep.run(config)
    assert again["has_work"] and "of which seed-1 failed and will be tried again" in again["reason"]

    store.delete(f"{planned['notes']}failed/seed-1.json")
    judged[1] = judge(store, train(store, f"{planned['runs']}seed-1"), 90)
    whole = select.run(SelectConfig(store=given.store, plan=planned["plan"], evaluations=tuple(judged.values())))
    assert (whole["best"], "failed" in whole) == ("seed-1", False)
    assert not sweep.run(config)["has_work"]
    assert select.run(chosen)["already_done"]


def test_a_sweep_of_which_all_trials_failed_has_no_best(tmp_path: Path, samples: list[Sample], suite: str):
    given = tiny_run(tmp_path, samples)
    trials = json.dumps({"train.seed": [1], "train.batch_size": [8]})
    config = SweepConfig(store=given.store, suite=suite, trials=trials, dataset=given.dataset, preset="demo-quick")
    planned = sweep.run(config)
    fail_trial(open_store(given.store), planned["notes"], "seed-1-batch-8", "no such thing", code=78)
    with pytest.raises(TrialsFailedError, match="none of its trials has scores: .*no such thing") as end:
        select.run(SelectConfig(store=given.store, plan=planned["plan"]))
    assert end.value.exit_code == 78
    assert sweep.run(config)["has_work"]


def test_integers_that_kubeflow_would_round_travel_as_text(tmp_path: Path, samples: list[Sample], suite: str):
    given = tiny_run(tmp_path, samples)
    seeds = [2**53 + 1, 5]
    arguments = {
        "store": given.store,
        "suite": suite,
        "dataset": given.dataset,
        "preset": "demo-quick",
        "overrides": '{"train.batch_size": 8}',
        "trials": json.dumps({"train.seed": seeds}),
    }
    handed = run_first("sweep", arguments, write_to=str(tmp_path / "plan"))["trials"]
    assert [trial["settings"]["seed"] for trial in handed] == [str(2**53 + 1), 5]
    kept = json.loads((tmp_path / "plan").read_text())["trials"]
    assert [trial["settings"]["seed"] for trial in kept] == seeds
    assert issubclass(TrialsFailedError, HQClipError)


def test_the_card_of_a_sweep_names_its_data(tmp_path: Path, samples: list[Sample], suite: str):
    given = tiny_run(tmp_path, samples)
    own = {"store": given.store, "suite": suite, "dataset": given.dataset, "preset": "demo-quick"}
    arguments = {**own, "overrides": '{"train.batch_size": 8}', "trials": '{"train.seed": [1, 2]}'}
    run_first("sweep", arguments, write_to=str(tmp_path / "plan"), card=str(tmp_path / "card"))
    assert f"--dataset {given.dataset} (curate_dataset in a pipeline)" in (tmp_path / "card").read_text()


@pytest.mark.slow
def test_a_sweep_with_a_trial_that_fails_has_its_page_on_this_machine(
    tmp_path: Path, samples: list[Sample], suite: str, capfd: pytest.CaptureFixture[str]
):
    given = tiny_run(tmp_path, samples)
    store = open_store(given.store)
    overrides = {name: v for name, v in TINY.items() if name.startswith("train.")} | {"train.batch_size": 8}
    inputs = {
        "store": given.store,
        "evaluate_suite": suite,
        "curate_dataset": given.dataset,
        "plan_preset": "demo-quick",
        "plan_overrides": json.dumps(overrides),
        "sweep_trials": '{"train.learning_rate": [0.001, 0.002]}',
    }
    settings = {"trials": inputs["sweep_trials"], "overrides": inputs["plan_overrides"], "dataset": given.dataset}
    planned = sweep.run(SweepConfig(store=given.store, suite=suite, preset="demo-quick", **settings))
    taken = f"runs/{planned['runs']}lr-0.001/config.json"
    store.write(taken, b'{"seed": 7}')  # the name of the run is taken by another
    runner = Runner(compile_pipeline("sweep", tmp_path / "sweep.yaml"), tmp_path / "tasks")
    assert runner.run(inputs) == 1
    said = "".join(capfd.readouterr())
    assert "trial lr-0.001 failed in train (exit code 73)" in said
    found = json.loads(store.read(planned["plan"].replace(".plan", "")))
    assert (found["best"], found["failed"][0]["trial"]) == ("lr-0.002", "lr-0.001")
    store.delete(taken)
    assert runner.run(inputs) == 0
    found = json.loads(store.read(planned["plan"].replace(".plan", "")))
    assert len(found["points"]) == 2 and "failed" not in found
