"""Channels: what is tried moves no schedule, what is promoted does, line by line, and can be taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip.errors import ConfigError, ConflictError, NotFoundError
from pipelines.client import listing, promote_version, rollback, runs, versions
from pipelines.client.connect import Kubeflow
from pipelines.client.versions import find_version, our_names
from pipelines.lines import LONGEST, line_name, line_of, split_channel
from tests.fakes.kubeflow import FakeKubeflow
from tests.fakes.kubeflow_client import NAME, call, connected, write_package
from tests.scheduling import Shell

STORE = ("--set", "store=gs://b/s")
Verb = Callable[..., Any]
NIGHTLY: dict[str, Any] = {"name": "nightly", "pipeline": NAME, "cron": "0 0 2 * * *", "inputs": {"store": "gs://b/s"}}


@pytest.fixture
def told(kubeflow: FakeKubeflow, capsys: pytest.CaptureFixture[str]) -> Verb:
    """A verb's answer."""

    def tell(verb: Any, *words: object) -> Any:
        capsys.readouterr()
        assert call(verb, *words, "-o", "json") == 0
        return json.loads(capsys.readouterr().out)

    return tell


def tried(folder: Path, number: int, line: str = "") -> Path:
    """A package of its own content, of this line."""
    path = write_package(folder, image=f"x@sha256:{number}")
    if line:
        spec = yaml.safe_load(path.read_text())
        spec["pipelineInfo"]["description"] += f" Line: {line}."
        path.write_text(yaml.safe_dump(spec))
    return path


def followed(kubeflow: FakeKubeflow) -> str:
    """The image that the only recurring run would take now."""
    (there,) = kubeflow.recurring.values()
    started = kubeflow.fire(there["recurring_run_id"])
    kubeflow.state(started, "SUCCEEDED")  # else the next time is left out
    reference = kubeflow.runs[started]["pipeline_version_reference"]
    spec = kubeflow.versions[reference["pipeline_version_id"]]["pipeline_spec"]
    return str(spec["deploymentSpec"]["executors"]["exec-plan"]["container"]["image"])


def test_a_schedule_follows_what_is_promoted_and_never_what_is_tried(
    kubeflow: FakeKubeflow, told: Verb, shell: Shell, tmp_path: Path
) -> None:
    first = told(versions, tried(tmp_path, 1))["version"]
    shell.write(NIGHTLY)
    with pytest.raises(ConfigError, match="nothing was promoted to stable of hqclip-refine yet"):
        shell("diff")
    step = told(promote_version, "refine", first)
    assert (step["channel"], step["version"], step["before"], step["new"]) == ("stable", first, "", True)
    assert shell("apply")[0]["action"] == "create"
    assert shell("list")[0]["version"] == "stable"
    assert shell("diff")[0]["action"] == "none"
    told(runs, tried(tmp_path, 2), *STORE)
    assert followed(kubeflow) == "x@sha256:1"
    assert told(promote_version, NAME, "latest")["before"] == first
    assert told(promote_version, NAME, "latest")["new"] is False
    assert followed(kubeflow) == "x@sha256:2"
    assert shell("diff")[0]["action"] == "none"
    assert told(rollback, "refine")["version"] == f"{first}-again-2"
    assert followed(kubeflow) == "x@sha256:1"


def test_each_rollback_goes_one_further_back(kubeflow: FakeKubeflow, told: Verb, tmp_path: Path) -> None:
    one, two, three = [told(versions, tried(tmp_path, number))["version"] for number in range(3)]
    with pytest.raises(NotFoundError, match="nothing was promoted yet"):
        call(rollback, "refine")
    for version in (one, two, three):
        told(promote_version, "refine", version)
    assert told(rollback, "refine")["version"] == f"{two}-again-2"
    back = told(rollback, "refine")
    assert (back["version"], back["before"]) == (f"{one}-again-2", f"{two}-again-2")
    with pytest.raises(NotFoundError, match=f"nothing was in force before {one}-again-2"):
        call(rollback, "refine")
    assert told(promote_version, "refine", three)["version"] == f"{three}-again-2"
    assert len(kubeflow.versions) == 9, "nothing was deleted"
    with pytest.raises(ConfigError, match="'dev' is no channel"):
        call(rollback, "refine", "dev")


def test_lines_do_not_move_each_other(kubeflow: FakeKubeflow, told: Verb, tmp_path: Path) -> None:
    plain = told(versions, tried(tmp_path, 1))["version"]
    launched = told(versions, tried(tmp_path, 2, "launched-train"))["version"]
    told(versions, tried(tmp_path, 3))
    told(promote_version, "refine", plain)
    assert told(promote_version, "refine", launched)["channel"] == "stable-launched-train"
    there = connected(kubeflow)
    assert in_force(there, "stable") == plain
    assert in_force(there, "stable-launched-train") == launched
    rows = told(listing, "refine")
    assert [(row["channel"], row["line"]) for row in rows] == [
        ("dev", ""),
        ("stable-launched-train", "launched-train"),
        ("stable", ""),
    ]
    channels = {row["pipeline"]: row["channel"] for row in told(listing)}
    assert channels == {
        NAME: "dev",
        f"{NAME}-stable": "stable",
        f"{NAME}-stable-launched-train": "stable-launched-train",
    }
    told(promote_version, "refine", "latest")
    assert [row["channel"] for row in told(listing, f"{NAME}-stable")] == ["stable", ""]


def in_force(there: Kubeflow, channel: str) -> str:
    """The version of a channel."""
    return str(find_version(there, NAME, channel).display_name)


def test_what_older_releases_left_unpinned_is_not_moved_either(
    kubeflow: FakeKubeflow, told: Verb, tmp_path: Path
) -> None:
    owner = told(versions, tried(tmp_path, 1))["pipeline_id"]
    there = connected(kubeflow)
    old = there.client._recurring_run_api.recurring_run_service_create_recurring_run(
        recurring_run={
            "display_name": "nightly",
            "mode": "ENABLE",
            "max_concurrency": "1",
            "trigger": {"cron_schedule": {"cron": "0 0 2 * * *"}},
            "pipeline_version_reference": {"pipeline_id": owner},
            "runtime_config": {"parameters": {"store": "gs://b/s"}},
        }
    )
    with pytest.raises(ConflictError, match=r"taken by recurring runs that follow what is newest: nightly \("):
        call(runs, tried(tmp_path, 2), *STORE)
    assert len(kubeflow.versions) == 1
    assert told(runs, tried(tmp_path, 1), *STORE)["version"]  # what is there already moves nothing
    there.client.disable_recurring_run(old.recurring_run_id)
    assert told(versions, tried(tmp_path, 2))["new"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"version": "latest"}, "latest is whatever was tried last; give `version: stable`"),
        ({"pipeline": f"{NAME}-stable"}, "is a channel: give `pipeline: hqclip-refine` and `version: stable`"),
    ],
)
def test_a_file_that_would_follow_trials_is_refused(shell: Shell, entry: dict[str, str], said: str) -> None:
    shell.write({**NIGHTLY, **entry})
    with pytest.raises(ConfigError, match=said):
        shell("diff")


def test_tags_are_refused_by_the_same_rule_everywhere(
    kubeflow: FakeKubeflow, told: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HQCLIP_TAG")
    path = write_package(tmp_path, image="hqclip/base:mine")
    for verb, words in ((versions, (path,)), (runs, (path, *STORE)), (runs, (path, *STORE, "--dry-run"))):
        with pytest.raises(ConfigError, match=r"images without a digest: hqclip/base:mine.*--allow-tags"):
            call(verb, *words)
    assert not kubeflow.versions
    version = told(versions, path, "--allow-tags")["version"]
    with pytest.raises(ConfigError, match="images without a digest"):
        call(promote_version, "refine", version)
    assert told(promote_version, "refine", version, "--allow-tags")["new"]


def test_a_promotion_whose_answer_got_lost_is_made_once(kubeflow: FakeKubeflow, told: Verb, tmp_path: Path) -> None:
    version = told(versions, tried(tmp_path, 1))["version"]
    kubeflow.commit_then_drop("POST", "/upload_version")
    assert told(promote_version, "refine", version)["version"] == version
    assert len(kubeflow.versions) == 2
    kubeflow.assert_all_faults_fired()


def test_a_line_is_what_was_chosen_in_whatever_order() -> None:
    assert line_name((), "", "") == ""
    assert (
        line_name(("train", "annotate"), "", "")
        == line_name(("annotate", "train"), "", "")
        == "launched-annotate-train"
    )
    assert line_name(("train",), "/x/On_Prem.yaml", "small") == "launched-train-on-prem-small"
    with pytest.raises(ConfigError, match="longer than 63"):
        line_name((), "x" * (LONGEST + 1), "")
    assert split_channel(f"{NAME}-stable-x", our_names()) == (NAME, "stable-x")
    assert split_channel(f"{NAME}-stables", our_names()) == (f"{NAME}-stables", "")


def test_what_compiles_says_its_line(tmp_path: Path) -> None:
    made = versions.read_package("evaluate", "evaluate", "small")
    assert line_of(made.spec) == "launched-evaluate-small"
    assert "Line" not in versions.described_as(made)
    assert line_of(versions.read_package("evaluate").spec) == ""
