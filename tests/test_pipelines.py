"""What Kubeflow gets: the compiled pipeline, and its execution by Kubeflow's own local runner."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import yaml

from components import images
from hqclip.config import DemoWorldConfig, PlanConfig
from hqclip.demo.world import make_world
from hqclip.presets import PRESETS
from hqclip.records import CycleRecord
from hqclip.stages import LAUNCHABLE, STAGES
from hqclip.store import Store, open_store
from hqclip.task_records import read_records
from pipelines.__main__ import main
from pipelines.compiling import PIPELINES, compile_pipeline
from pipelines.inputs import INPUTS, parameter_type
from pipelines.local import Runner
from tests.cycle import TINY


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_pipeline("refine", tmp_path_factory.mktemp("compiled") / "refine.yaml")


@pytest.fixture(scope="module")
def spec(compiled: Path) -> dict[str, Any]:
    return dict(next(yaml.safe_load_all(compiled.read_text())))


def test_the_compiled_pipeline_is_the_one_that_was_reviewed(compiled: Path, golden: Callable[[str, str], None]):
    golden("refine.yaml", compiled.read_text())


def test_compiling_twice_gives_the_same_bytes(compiled: Path, tmp_path: Path):
    assert compile_pipeline("refine", tmp_path / "again.yaml").read_bytes() == compiled.read_bytes()


def test_the_pipeline_is_small_enough_for_a_workflow_object(compiled: Path):
    assert compiled.stat().st_size < 100_000


def test_every_input_is_described_and_named_after_its_stage(spec: dict[str, Any]):
    inputs = spec["root"]["inputDefinitions"]["parameters"]
    assert len(inputs) <= 20
    assert all(details.get("description") for details in inputs.values())
    stages = ("plan_", "download_", "annotate_", "train_", "evaluate_", "promote_")
    assert [name for name in inputs if not name.startswith(stages)] == ["store"]


def pods(spec: dict[str, Any], group: dict[str, Any], trials: int = 1) -> int:
    """Pods of a run: a driver for every group and turn of a loop, a driver and an executor for every other task."""
    number = 1  # the driver of the group itself
    for task in group["dag"]["tasks"].values():
        inner = spec["components"][task["componentRef"]["name"]]
        if "dag" not in inner:
            number += 2
        elif "parameterIterator" in task:
            number += 1 + trials * pods(spec, inner, trials)
        else:
            number += pods(spec, inner, trials)
    return number


@pytest.mark.parametrize(("pipeline", "one", "more"), [("refine", 23, 5), ("sweep", 12, 5), ("evaluate", 5, 0)])
def test_a_run_costs_no_more_pods_than_were_counted(pipeline: str, one: int, more: int, tmp_path: Path):
    spec = next(yaml.safe_load_all(compile_pipeline(pipeline, tmp_path / "it.yaml").read_text()))
    assert pods(spec, spec["root"]) == one
    assert pods(spec, spec["root"], trials=3) == one + 2 * more


def test_seeds_travel_as_text_for_a_cluster_rounds_large_numbers(spec: dict[str, Any], tmp_path: Path):
    sweep = next(yaml.safe_load_all(compile_pipeline("sweep", tmp_path / "it.yaml").read_text()))
    for of in (spec, sweep):
        assert of["root"]["inputDefinitions"]["parameters"]["train_seed"]["parameterType"] == "STRING"
    given = PlanConfig.from_mapping({"store": "s", "shards": "p", "suite": "e", "train_seed": str(2**62 + 1)})
    assert given.train_seed == 2**62 + 1


@pytest.mark.parametrize("stage", sorted({inputs.stage for inputs in INPUTS.values()}))
def test_a_first_task_needs_no_heavy_package_to_find_that_there_is_nothing_to_do(stage: str):
    heavy = {
        "torch",
        "pyarrow",
        "numpy",
        "PIL",
        "google.cloud",
        "google.auth",
        "transformers",
        "open_clip",
        "kubernetes",
    }
    code = (
        "import sys, hqclip.task, hqclip.cycle.finish, importlib\n"
        f"importlib.import_module({STAGES[stage].module!r})\n"
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_task_installs_anything_or_is_served_from_a_cache(spec: dict[str, Any]):
    for name, executor in spec["deploymentSpec"]["executors"].items():
        assert "pip install" not in json.dumps(executor), name
        assert not executor["container"]["image"].endswith(":latest"), name
    groups = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    for tasks in (group["dag"]["tasks"] for group in groups):
        for name, task in tasks.items():
            inner = spec["components"][task["componentRef"]["name"]]
            assert "dag" in inner or not task.get("cachingOptions", {}).get("enableCache"), name


def test_the_plan_component_takes_every_setting_of_the_plan(spec: dict[str, Any]):
    given = set(spec["components"]["comp-plan"]["inputDefinitions"]["parameters"])
    assert given == set(PlanConfig.__dataclass_fields__)


@pytest.mark.parametrize("stage", sorted({inputs.stage for inputs in INPUTS.values()}))
def test_a_first_task_takes_every_setting_of_its_stage_as_it_is_declared(stage: str):
    component = getattr(importlib.import_module(f"components.{stage}"), stage)
    parameters = inspect.signature(component.python_func).parameters.values()
    taken = {p.name: p.annotation for p in parameters if p.annotation in (str, int, float, bool)}
    declared = get_type_hints(STAGES[stage].settings)
    assert taken == {name: parameter_type(name, kind) for name, kind in declared.items()}
    assert all(p.default is p.empty for p in parameters), "the settings have the defaults"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_has_a_component_in_the_image_that_the_table_names(stage: str):
    component = getattr(importlib.import_module(f"components.{stage}"), stage)
    assert component.component_spec.implementation.container.image == images.ref(STAGES[stage].image)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_first_task_hears_of_every_stage_that_is_launched(name: str, tmp_path: Path):
    compiled = compile_pipeline(name, tmp_path / "launched.yaml", LAUNCHABLE)
    spec = next(yaml.safe_load_all(compiled.read_text()))
    executors = spec["deploymentSpec"]["executors"].items()
    waiting = {key.removeprefix("exec-") for key, e in executors if e["container"]["image"] == images.ref("launch")}
    first = INPUTS[name].stage.replace("_", "-")
    groups = [spec["root"], *(c for c in spec["components"].values() if "dag" in c)]
    (task,) = [group["dag"]["tasks"][first] for group in groups if first in group["dag"]["tasks"]]
    told = task["inputs"]["parameters"]["launched"]["runtimeValue"]["constant"]
    assert waiting and set(told.split(",")) == waiting


def test_a_stage_that_is_launched_waits_without_a_gpu(tmp_path: Path, spec: dict[str, Any]):
    launched = compile_pipeline("refine", tmp_path / "launched.yaml", ["annotate", "train"])
    executors = next(yaml.safe_load_all(launched.read_text()))["deploymentSpec"]["executors"]
    for stage in ("annotate", "train"):
        container = executors[f"exec-{stage}"]["container"]
        assert container["image"] == "hqclip/launch:0.1.0"
        assert "accelerator" not in container["resources"]
    for name, executor in executors.items():
        if name not in ("exec-annotate", "exec-train"):
            assert executor == spec["deploymentSpec"]["executors"][name]
    assert main(["compile", "refine", "--launched", "trian", "-o", str(tmp_path / "no.yaml")]) == 64
    assert not (tmp_path / "no.yaml").exists()


def test_a_newer_ui_is_told_what_a_preset_may_be(tmp_path: Path, spec: dict[str, Any]):
    path = tmp_path / "offered.yaml"
    assert main(["compile", "refine", "--allow-tags", "--drop-downs", "-o", str(path)]) == 0
    offered = next(yaml.safe_load_all(path.read_text()))
    literals = offered["root"]["inputDefinitions"]["parameters"]["plan_preset"].pop("literals")
    assert literals == list(PRESETS)
    assert offered == spec
    assert Runner(path, tmp_path / "tasks").inputs  # the SDK still takes it


@pytest.mark.slow
def test_the_compiled_yaml_runs_a_cycle_on_this_machine_and_then_has_nothing_to_do(
    compiled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    world = make_world(DemoWorldConfig(store=str(tmp_path / "world"), images=30, scenes=8))
    runner = Runner(compiled, tmp_path / "tasks")
    inputs = {
        "store": str(tmp_path / "store"),
        "download_shards": world["shards"],
        "evaluate_suite": world["suite"],
        "plan_preset": "demo-quick",
        "plan_overrides": json.dumps(TINY),
        "train_trials": "raw,hqclip",
    }
    assert runner.run(inputs) == 0
    store = open_store(inputs["store"])
    record = CycleRecord.from_json(store.read("cycles/000001.json"), "cycles/000001.json")
    assert [run["name"] for run in record.runs] == ["raw", "hqclip"]
    assert store.exists(record.report)
    everything = work(store)
    (first,) = {key.split("/")[1] for key in store.list("pipelines/")}
    assert runner.run({**inputs, "plan_cycle": 1}) == 0
    assert work(store) == everything
    _tell_of_themselves(store, first)
    said = capfd.readouterr().out
    assert "cycle 1 is done" in said
    assert "executor_input" not in said
    _sweep(inputs, tmp_path)
    _judge(inputs, tmp_path)
    _refine_data_only(inputs, tmp_path, capfd)
    assert "executor_input" in (tmp_path / "tasks" / "log.txt").read_text()


def work(store: Store) -> list[str]:
    """What is in a store but the records of tasks, which each run adds to."""
    return [key for key in store.list() if not key.startswith("pipelines/")]


def _tell_of_themselves(store: Store, first: str) -> None:
    """The records of a run that trained two models, and of one with nothing to do."""
    (second,) = {key.split("/")[1] for key in store.list("pipelines/")} - {first}
    records = {record.task: record for record in read_records(store, first)}
    judged = {f"{stage}-{trial}" for stage in ("train", "evaluate") for trial in ("raw", "hqclip")}
    assert set(records) == {"plan", "download", "annotate", "score", "curate", "promote", "finish", *judged}
    assert {record.exit_code for record in records.values()} == {0}
    assert records["finish"].decided["outcome"] == "succeeded"
    assert records["finish"].decided["reason"].startswith("the run succeeded: promoted: there was no champion before")
    plan, finish = read_records(store, second)
    assert (plan.task, plan.decided["has_work"], finish.decided["outcome"]) == ("plan", False, "nothing_to_do")


def _runner(name: str, tmp_path: Path) -> Runner:
    return Runner(compile_pipeline(name, tmp_path / f"{name}.yaml"), tmp_path / "tasks")


def _sweep(inputs: dict[str, Any], tmp_path: Path) -> None:
    """Two trials on the data of the cycle; nothing is put in force, and the same sweep again does nothing."""
    store, runner = open_store(inputs["store"]), _runner("sweep", tmp_path)
    champion = store.read("champion.json")
    given = {name: inputs[name] for name in ("store", "evaluate_suite", "plan_preset")}
    overrides = {name: value for name, value in TINY.items() if name.startswith("train.")}
    given |= {"plan_overrides": json.dumps(overrides), "sweep_trials": '{"train.learning_rate": [0.001, 0.002]}'}
    assert runner.run(given) == 0
    (key,) = [key for key in store.list("sweeps/") if key.count("/") == 1 and key.count(".") == 1 and "json" in key]
    found = json.loads(store.read(key))
    assert [trial["name"] for trial in found["points"]] == ["lr-0.001", "lr-0.002"]
    assert found["best"] in ("lr-0.001", "lr-0.002") and store.exists(found["report"])
    everything = work(store)
    assert runner.run(given) == 0
    assert work(store) == everything
    assert store.read("champion.json") == champion


def _judge(inputs: dict[str, Any], tmp_path: Path) -> None:
    """The champion has been judged on this suite: the pipeline ends without looking at a picture again."""
    given = {name: inputs[name] for name in ("store", "evaluate_suite", "plan_preset")}
    assert _runner("evaluate", tmp_path).run(given) == 0


def _refine_data_only(inputs: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A second data set version, judged by the champion of the first cycle; the second call has nothing to do."""
    store, runner = open_store(inputs["store"]), _runner("annotate", tmp_path)
    given = {name: inputs[name] for name in ("store", "download_shards", "plan_preset")}
    overrides = {name: value for name, value in TINY.items() if not name.startswith("train.")}
    given["plan_overrides"] = json.dumps(overrides)
    capfd.readouterr()
    assert runner.run(given) == 0
    assert store.exists("cycles/000002.stages/curate.json") and not store.exists("cycles/000002.json")
    assert runner.run(given) == 0
    assert "cycle 2 is done" in capfd.readouterr().out


@pytest.mark.slow
def test_inputs_that_are_wrong_are_refused_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = ["--out", str(tmp_path)]
    assert main(["run", "refine", "--local", *out, "--set", "train_sed=1"]) == 64
    assert "did you mean 'train_seed'" in capsys.readouterr().err
    assert main(["run", "refine", "--local", *out, "--set", "train_seed=one"]) == 64
    assert "train_seed must be a number, got 'one'" in capsys.readouterr().err
    assert main(["run", "refine", "--local", *out, "--preset", "small"]) == 64
    assert "--set store=..." in capsys.readouterr().err
    assert main(["run", "refine", "--local", "--preset", "dmeo"]) == 64
    assert main(["run", "refin", "--local"]) == 64
    assert main(["compile", "refin"]) == 64
    assert not (tmp_path / "store").exists()


def test_flags_that_would_have_no_effect_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert main(["run", "refine", "--local", "--dry-run", "--out", str(tmp_path)]) == 64
    assert "--dry-run is for runs on a cluster" in capsys.readouterr().err
    assert main(["run", "refine", "--cycles", "2", "--dry-run"]) == 64
    assert "--cycles is for --local and --docker" in capsys.readouterr().err
    given = ["--set", "store=s", "--set", "download_shards=p", "--set", "evaluate_suite=e"]
    assert main(["run", "refine", "--preset", "medium", *given, "--allow-tags", "--dry-run", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"]["plan_preset"] == "medium"
    assert main(["run", "refine", "--set", "store=", *given[2:], "--dry-run"]) == 64
    assert "--set store=..." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_compile_refuses_leaves_the_file_as_it_was(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    path = tmp_path / "new" / "folder" / "it.yaml"
    assert main(["compile", "evaluate", "--allow-tags", "-o", str(path)]) == 0
    before = path.read_bytes()
    assert main(["compile", "evaluate", "--launched", "evaluate", "-o", str(path)]) == 64
    assert path.read_bytes() == before
    assert main(["compile", "evaluate", "--allow-tags", "-o", str(tmp_path)]) == 64
    assert main(["compile", "evaluate", "--allow-tags", "-o", str(tmp_path / "it.txt")]) == 64
    assert "give the name of a YAML file, such as evaluate.yaml" in capsys.readouterr().err
    assert main(["compile", "evaluate", "--allow-tags", "-o", str(path / "it.yaml")]) == 64
    assert "it.yaml: cannot be written: " in capsys.readouterr().err


def test_the_demo_is_put_in_only_where_its_settings_are_chosen(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    given = ["--local", "--out", str(tmp_path / "out"), "--set", "store=s", "--set", "plan_preset=small"]
    assert main(["run", "refine", *given]) == 64
    assert "give --set download_shards=... --set evaluate_suite=..." in capsys.readouterr().err
    assert not (tmp_path / "out" / "world").exists()
