"""Channels: what is tried moves no schedule, what is promoted does, line by line, and can be taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from hqclip.errors import ConfigError, ConflictError, NotFoundError
from pipelines.client import channels, listing, promote_version, rollback, runs, status, versions
from pipelines.client.connect import Kubeflow
from pipelines.client.versions import find_version, our_names
from pipelines.lines import LONGEST, channel_of, launched_in, line_name, line_of, split_channel
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
    by_pipeline = {row["pipeline"]: row["channel"] for row in told(listing)}
    assert by_pipeline == {
        NAME: "dev",
        f"{NAME}-stable": "stable",
        f"{NAME}-stable-launched-train": "stable-launched-train",
    }
    told(promote_version, "refine", "latest")
    assert [row["channel"] for row in told(listing, f"{NAME}-stable")] == ["stable", ""]


def in_force(there: Kubeflow, channel: str) -> str:
    """The version of a channel."""
    return str(find_version(there, NAME, channel).name)


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


def test_of_two_versions_of_one_second_kubeflow_may_take_either_so_there_are_none(
    kubeflow: FakeKubeflow, told: Verb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = [told(versions, tried(tmp_path, number))["version"] for number in range(2)]
    monkeypatch.setattr(channels, "TICK_S", 1.0)
    monkeypatch.setattr(kubeflow, "now", by_the_clock)
    told(promote_version, "refine", one)
    told(promote_version, "refine", two)
    first, second = [row["created_at"] for row in kubeflow.versions.values() if row["tags"]["channel"] == "stable"]
    assert first < second
    monkeypatch.setattr(channels, "TICK_S", 0.0)
    monkeypatch.setattr(kubeflow, "now", lambda: second)  # as if somebody else promoted meanwhile
    with pytest.raises(ConflictError, match=f"stable: {two} was put in force at the same time as {one}-again-2"):
        call(promote_version, "refine", one)
    monkeypatch.setattr(kubeflow, "now", by_the_clock)
    monkeypatch.setattr(channels, "TICK_S", 1.0)
    assert told(promote_version, "refine", one)["version"] == f"{one}-again-3", "it may not have been in force"
    assert in_force(connected(kubeflow), "stable") == f"{one}-again-3"


def by_the_clock() -> str:
    """The time as Kubeflow writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_version_is_known_by_its_name_whatever_it_is_displayed_as(
    kubeflow: FakeKubeflow, told: Verb, tmp_path: Path
) -> None:
    first, second = [told(versions, tried(tmp_path, number))["version"] for number in range(2)]
    told(promote_version, "refine", first)
    for row in (*kubeflow.versions.values(), *kubeflow.pipelines.values()):
        row["display_name"] = "mine"
    assert told(promote_version, "refine", first)["new"] is False
    assert told(promote_version, "refine", second)["before"] == first
    assert told(rollback, "refine")["version"] == f"{first}-again-2"
    assert told(promote_version, "refine", f"{first}-again-2")["new"] is False


def test_versions_of_other_pipelines_are_called_as_they_like(
    kubeflow: FakeKubeflow, shell: Shell, told: Verb, tmp_path: Path
) -> None:
    told(versions, write_package(tmp_path, name="somebodys"))
    (row,) = [row for row in kubeflow.versions.values() if row["pipeline_spec"]["pipelineInfo"]["name"] == "somebodys"]
    row["name"] = row["display_name"] = "stable-1"
    assert told(runs, "somebodys", "--version", "stable-1", *STORE)["version"] == "stable-1"
    shell.write({**NIGHTLY, "pipeline": "somebodys", "version": "stable-1"})
    assert shell("apply")[0]["action"] == "create"
    (there,) = kubeflow.recurring.values()
    assert there["pipeline_version_reference"]["pipeline_version_id"] == row["pipeline_version_id"], "pinned"


def test_nothing_is_uploaded_past_promotion(kubeflow: FakeKubeflow, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hqclip-refine-stable is what schedules follow"):
        call(versions, write_package(tmp_path, name=f"{NAME}-stable"))
    assert not kubeflow.pipelines


def test_a_schedule_whose_inputs_do_not_fit_is_named_by_who_promotes(
    kubeflow: FakeKubeflow, told: Verb, shell: Shell, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(promote_version, "refine", told(versions, tried(tmp_path, 1))["version"])
    shell.write({**NIGHTLY, "inputs": {"store": "gs://b/s", "release": "2"}})
    shell("apply")
    path = tried(tmp_path, 2)
    path.write_text(path.read_text().replace("release", "edition"))
    version = told(versions, path)["version"]
    capsys.readouterr()
    assert call(promote_version, "refine", version) == 0
    said = capsys.readouterr().err
    assert "its runs would be refused: nightly (" in said
    assert "unknown input 'release'" in said
    assert f"rollback {NAME} stable" in said
    assert call(rollback, "refine") == 0
    assert "would be refused" not in capsys.readouterr().err


def test_a_run_says_which_version_it_took(kubeflow: FakeKubeflow, told: Verb, shell: Shell, tmp_path: Path) -> None:
    version = told(versions, tried(tmp_path, 1))["version"]
    told(promote_version, "refine", version)
    shell.write(NIGHTLY)
    shell("apply")
    followed(kubeflow)
    (run,) = kubeflow.runs
    assert told(status, run)["version"] == version
    (taken,) = [key for key, row in kubeflow.versions.items() if row.get("tags", {}).get("channel") == "stable"]
    del kubeflow.versions[taken]
    assert told(status, run)["version"] == taken


def test_what_is_advised_is_not_refused(
    kubeflow: FakeKubeflow, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HQCLIP_TAG")
    assert call(versions, write_package(tmp_path, image="hqclip/base:mine"), "--allow-tags") == 0
    (advised,) = [line.split() for line in capsys.readouterr().err.splitlines() if " promote-version " in line]
    assert call(promote_version, *advised[advised.index("promote-version") + 1 :]) == 0


def test_a_line_is_what_was_chosen_in_whatever_order() -> None:
    assert line_name((), "", "") == ""
    assert (
        line_name(("train", "annotate"), "", "")
        == line_name(("annotate", "train"), "", "")
        == "launched-annotate-train"
    )
    assert line_name(("train",), "/x/On_Prem.yaml", "small") == "launched-train-small-on-on-prem"
    assert line_name(("annotate",), "train.yaml", "") != line_name(("annotate", "train"), "", "")
    with pytest.raises(ConfigError, match="longer than 63"):
        line_name((), "x" * (LONGEST - 9), "")
    assert len(channel_of(line_name((), "x" * (LONGEST - 10), ""))) == LONGEST
    assert split_channel(f"{NAME}-stable-x", our_names()) == (NAME, "stable-x")
    assert split_channel(f"{NAME}-stables", our_names()) == (f"{NAME}-stables", "")


def test_what_compiles_says_its_line(tmp_path: Path) -> None:
    made = versions.read_package("evaluate", "evaluate", "small")
    assert line_of(made.spec) == "launched-evaluate-small"
    assert "Line" not in versions.described_as(made)
    assert line_of(versions.read_package("evaluate").spec) == ""
    lines = ("launched-evaluate-small", "launched-annotate-train-on-train", "small-on-launched", "")
    assert [launched_in(line) for line in lines] == [["evaluate"], ["annotate", "train"], [], []]


def test_who_edits_a_platform_stays_in_its_line(tmp_path: Path) -> None:
    platform = tmp_path / "Ours.yaml"
    for text in ("shm: 1Gi", "{shm: 2Gi, requests: small}"):
        platform.write_text(text)
        assert line_of(versions.read_package("evaluate", platform=str(platform)).spec) == "on-ours"
    assert line_of(versions.read_package("evaluate", "", "small", str(platform)).spec) == "on-ours"
    assert line_of(versions.read_package("evaluate", "", "standard", str(platform)).spec) == "standard-on-ours"
