"""A platform file on its way to Kubeflow: versions, runs, sweeps and schedules that are compiled with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hqclip.errors import ConfigError, HQClipError
from pipelines.__main__ import main
from pipelines.client.versions import read_package
from tests.fakes.kubeflow import FakeKubeflow
from tests.scheduling import Shell, actions, upload

WEEKLY = {
    "name": "weekly",
    "pipeline": "evaluate",
    "cron": "0 0 6 * * mon",
    "inputs": {"store": "gs://b/s", "evaluate_suite": "gs://b/suite.json"},
}
INPUTS = ["--set", "store=gs://b/s", "--set", "evaluate_suite=gs://b/suite.json"]


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    path = tmp_path / "platform.yaml"
    path.write_text("service_account: default-editor\nshm: 1Gi\n")
    return path


@pytest.fixture
def ask(kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """`python -m pipelines ...`, what it printed."""

    def asked(*words: object, code: int = 0) -> Any:
        assert main([*map(str, words), "--host", kubeflow.url, "-o", "json"]) == code
        return json.loads(capsys.readouterr().out or "null")

    return asked


def test_a_version_of_each_platform(kubeflow: FakeKubeflow, ask: Callable[..., Any], platform: Path) -> None:
    plain, ours = ask("upload", "evaluate"), ask("upload", "evaluate", "--platform", platform)
    assert plain["version"] != ours["version"] == read_package("evaluate", platform=str(platform)).version
    assert ask("upload", "evaluate", "--platform", platform)["new"] is False
    platform.write_text(platform.read_text() + "# why\n")
    assert ask("upload", "evaluate", "--platform", platform)["new"] is False, "a comment changes nothing"


def test_a_run_takes_the_account_that_the_platform_names(
    kubeflow: FakeKubeflow, ask: Callable[..., Any], platform: Path
) -> None:
    ask("run", "evaluate", *INPUTS, "--platform", platform)
    ask("run", "evaluate", *INPUTS, "--platform", platform, "--service-account", "mine")
    sweep = ["--grid", "train.learning_rate=1e-3,1e-4", "--set", "store=gs://b/s"]
    ask("sweep", *sweep, "--set", "evaluate_suite=gs://b/suite.json", "--platform", platform)
    accounts = [run["service_account"] for run in kubeflow.runs.values()]
    assert accounts == ["default-editor", "mine", "default-editor"]


def test_what_it_leaves_open_is_asked_of_the_run(
    kubeflow: FakeKubeflow, ask: Callable[..., Any], platform: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.write_text("secret_env: {HF_TOKEN: $hub/token}\n")
    ask("run", "evaluate", *INPUTS, "--platform", platform, code=64)
    assert not kubeflow.runs
    ask("run", "evaluate", *INPUTS, "--set", "plan_preset=tiny", "--set", "platform_hub=x", "--platform", platform,
        code=64)  # fmt: skip
    assert not kubeflow.runs, "its settings are checked as ever"
    ask("run", "evaluate", *INPUTS, "--set", "platform_hub=our-token", "--platform", platform)
    (run,) = kubeflow.runs.values()
    assert run["runtime_config"]["parameters"]["platform_hub"] == "our-token"


def test_a_schedule_with_a_platform_is_pinned_to_what_it_makes(
    kubeflow: FakeKubeflow, shell: Shell, platform: Path
) -> None:
    upload(kubeflow, read_package("evaluate"))
    shell.write({**WEEKLY, "platform": platform.name})
    version = read_package("evaluate", platform=str(platform)).version
    assert actions(shell("diff")) == [("weekly", "create")]
    assert version not in [made["display_name"] for made in kubeflow.versions.values()], "a look changes nothing"
    assert actions(shell("apply")) == [("weekly", "create")]
    (made,) = kubeflow.recurring.values()
    pinned = kubeflow.versions[made["pipeline_version_reference"]["pipeline_version_id"]]
    assert (pinned["display_name"], made["service_account"]) == (version, "default-editor")
    assert actions(shell("apply")) == [("weekly", "none")]
    platform.write_text("service_account: default-editor\nshm: 2Gi\n")
    (row,) = shell("diff")
    now = read_package("evaluate", platform=str(platform)).version
    assert (row["action"], row["differences"]) == ("replace", [f"version: {version} -> {now}"])
    shell("apply")
    assert actions(shell("diff")) == [("weekly", "none")]


def test_a_platform_for_all_is_for_those_that_name_neither_version_nor_platform(
    kubeflow: FakeKubeflow, shell: Shell, platform: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("shm: 3Gi\n")
    plain = upload(kubeflow, read_package("evaluate"))
    names = {"name": "named", "version": plain}, {"name": "own", "platform": "other.yaml"}
    shell.write(WEEKLY, *({**WEEKLY, **name} for name in names))
    shell("apply", "--platform", str(platform))
    versions = {
        made["display_name"]: kubeflow.versions[made["pipeline_version_reference"]["pipeline_version_id"]][
            "display_name"
        ]
        for made in kubeflow.recurring.values()
    }
    assert versions == {
        "weekly": read_package("evaluate", platform=str(platform)).version,
        "named": plain,
        "own": read_package("evaluate", platform=str(other)).version,
    }


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"platform": "platform.yaml", "version": "latest"}, "give one of version and platform"),
        ({"launched": "evaluate"}, "launched goes with platform"),
        ({"platform": "nowhere.yaml"}, "there is no such file"),
        ({"platform": "platform.yaml", "pipeline": "others"}, "platform is for pipelines that are compiled here"),
        ({"platform": "platform.yaml", "launched": "curate"}, "'curate' cannot be launched"),
    ],
)
def test_what_does_not_go_together_changes_nothing(
    kubeflow: FakeKubeflow, shell: Shell, platform: Path, entry: dict[str, str], told: str
) -> None:
    shell.write({**WEEKLY, **entry})
    with pytest.raises(HQClipError, match=told):
        shell("apply")
    assert not kubeflow.recurring


def test_a_launched_schedule_is_checked_with_its_platform(kubeflow: FakeKubeflow, shell: Shell, platform: Path) -> None:
    shell.write({**WEEKLY, "platform": platform.name, "launched": "evaluate"})
    with pytest.raises(ConfigError, match="compiled with --launched evaluate"):
        shell("apply")
    assert not kubeflow.recurring
