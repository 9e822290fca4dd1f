"""A stage is launched if its pipeline was compiled for that: what does not go together is refused before it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hqclip import __version__
from hqclip.errors import ConfigError
from hqclip.launch import resolve
from hqclip.launch.resolve import plan_machines
from pipelines.__main__ import main
from pipelines.client.machines import launched_stages
from pipelines.client.versions import read_package
from pipelines.compiling import PIPELINES
from tests.fakes.gcs import FakeGcs
from tests.fakes.kubeflow import FakeKubeflow

Read = pytest.CaptureFixture[str]
GIVEN = ("--set", "store=gs://bucket/s", "--set", "evaluate_suite=gs://bucket/suite.json", "--dry-run")
JOBSET = "scheduler: jobset\nimage: r.example/train@sha256:" + "0" * 64 + "\n"
NOT_COMPILED = "evaluate: the launch file has a section for it, and this pipeline was not compiled to launch it"


@pytest.fixture(autouse=True)
def tags(monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of a checkout have no digests."""
    monkeypatch.setenv("HQCLIP_TAG", __version__)


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    path = tmp_path / "machines.yaml"
    path.write_text(f"{JOBSET}evaluate: {{gpus: 1}}\n")
    return path


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_says_which_stages_it_launches(name: str) -> None:
    stage = "annotate" if name == "annotate" else "evaluate"
    assert launched_stages(read_package(name).spec) == []
    assert launched_stages(read_package(name, stage).spec) == [stage]


def test_a_launched_stage_without_machines_is_refused(capsys: Read) -> None:
    assert main(["run", "evaluate", "--launched", "evaluate", *GIVEN]) == 64
    assert "compiled with --launched evaluate" in capsys.readouterr().err


def test_machines_of_a_stage_that_is_not_launched_are_refused(machines: Path, capsys: Read) -> None:
    given = (*GIVEN, "--set", f"plan_launch={machines}")
    assert main(["run", "evaluate", *given]) == 64
    said = capsys.readouterr().err
    assert NOT_COMPILED in said and "Compile with --launched evaluate" in said
    assert main(["run", "evaluate", "--launched", "evaluate", *given]) == 0


def test_a_section_that_is_missed_is_named(machines: Path, capsys: Read) -> None:
    grid = ("--grid", "train.seed=1,2")
    given = (*grid, *GIVEN, "--set", f"plan_launch={machines}")
    assert main(["sweep", "--launched", "train,evaluate", *given]) == 64
    assert "train: this pipeline was compiled with --launched for it" in capsys.readouterr().err
    assert main(["sweep", "--launched", "evaluate", *given]) == 0
    assert main(["sweep", "--launched", "evaluate", *grid, *GIVEN]) == 64


def test_machines_of_a_stage_that_no_pipeline_launches_are_refused(machines: Path, capsys: Read) -> None:
    machines.write_text(f"{JOBSET}evaluate: {{gpus: 1}}\ncurate: {{cpus: 8}}\n")
    assert main(["run", "evaluate", "--launched", "evaluate", *GIVEN, "--set", f"plan_launch={machines}"]) == 64
    assert "curate: the launch file has a section for it, but it runs in its task" in capsys.readouterr().err


def test_a_task_that_only_waits_runs_nothing_itself(machines: Path, capsys: Read) -> None:
    machines.write_text("evaluate: {scheduler: local}\n")
    assert main(["run", "evaluate", "--launched", "evaluate", *GIVEN, "--set", f"plan_launch={machines}"]) == 64
    assert "evaluate: scheduler local would run it in the task that only waits" in capsys.readouterr().err


def test_a_section_that_no_cluster_would_take_is_refused(machines: Path, capsys: Read) -> None:
    machines.write_text(f"{JOBSET}evaluate: {{memory: 2Gi, cpus: many}}\n")
    assert main(["run", "evaluate", "--launched", "evaluate", *GIVEN, "--set", f"plan_launch={machines}"]) == 64
    said = capsys.readouterr().err
    assert "evaluate: shm is 8Gi, which is more than the memory of 2Gi" in said
    assert "evaluate: cpus is 'many'" in said


def test_machines_are_read_where_they_are(fake_gcs: FakeGcs, machines: Path, capsys: Read) -> None:
    launched = ("run", "evaluate", "--launched", "evaluate", *GIVEN)
    assert main([*launched, "--set", "plan_launch=gs://bucket/machines.yaml"]) == 64
    assert "machines.yaml" in capsys.readouterr().err
    assert main([*launched, "--set", "plan_launch=machines.yaml"]) == 64
    assert "is a file of this machine, which pods do not see" in capsys.readouterr().err
    assert main([*launched, "--set", "plan_launch=/mnt/of/the/pods/machines.yaml"]) == 0
    assert "plan_launch is not checked" in capsys.readouterr().err


def test_what_was_uploaded_is_held_against_the_machines_too(
    kubeflow: FakeKubeflow, machines: Path, tmp_path: Path, capsys: Read
) -> None:
    assert main(["upload", "evaluate"]) == 0
    assert main(["run", "evaluate", "--version", "latest", *GIVEN, "--set", f"plan_launch={machines}"]) == 64
    assert NOT_COMPILED in capsys.readouterr().err
    assert main(["promote-version", "evaluate", "latest"]) == 0
    schedule = tmp_path / "schedule.yaml"
    schedule.write_text(
        "schedules: [{name: a, pipeline: evaluate, every: 24h, inputs: "
        f"{{store: 'gs://bucket/s', evaluate_suite: 'gs://b/suite.json', plan_launch: '{machines}'}}}}]"
    )
    assert main(["schedule", "diff", str(schedule)]) == 64
    assert NOT_COMPILED in "".join(capsys.readouterr())
    assert main(["upload", "evaluate", "--launched", "evaluate"]) == 0
    assert main(["promote-version", "evaluate", "latest"]) == 0
    assert main(["schedule", "diff", str(schedule)]) == 64, "another line"
    schedule.write_text(schedule.read_text().replace("every: 24h", "every: 24h, version: stable-launched-evaluate"))
    assert main(["schedule", "apply", str(schedule)]) == 0
    assert len(kubeflow.recurring) == 1


SETTINGS = {"evaluate": {"store": "gs://bucket/s", "suite": "gs://bucket/suite.json"}}


@pytest.mark.parametrize("is_in_an_image", [True, False])
def test_the_first_task_refuses_it_too(machines: Path, monkeypatch: pytest.MonkeyPatch, is_in_an_image: bool) -> None:
    monkeypatch.setattr(resolve, "find_spec", lambda name: None if is_in_an_image else name)
    with pytest.raises(ConfigError, match=NOT_COMPILED):
        plan_machines(str(machines), SETTINGS, [])
    assert list(plan_machines(str(machines), SETTINGS, ["evaluate"])) == ["evaluate"]
    assert list(plan_machines(str(machines), SETTINGS)) == ["evaluate"], "where there is no pipeline"


def test_processes_of_this_machine_are_for_runs_on_this_machine(
    machines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines.write_text("evaluate: {scheduler: local}\n")
    for launched in ([], ["evaluate"]):
        monkeypatch.setattr(resolve, "find_spec", lambda name: name)
        assert list(plan_machines(str(machines), SETTINGS, launched)) == ["evaluate"]
        monkeypatch.setattr(resolve, "find_spec", lambda name: None)
        with pytest.raises(ConfigError, match="evaluate: (the launch file has|scheduler local would run it)"):
            plan_machines(str(machines), SETTINGS, launched)
