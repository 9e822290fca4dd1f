"""How Kubeflow's recurring runs are brought into line with a file of schedules, paused, listed and deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from hqclip.errors import ConfigError, ConflictError, HQClipError, NotFoundError
from hqclip.flags import Parser
from pipelines.client import schedules
from pipelines.client.versions import read_package
from tests.fakes.gcs import FakeGcs
from tests.fakes.kubeflow import FakeKubeflow
from tests.scheduling import NIGHTLY, Shell, actions, package, upload

EXAMPLE = Path(__file__).parents[1] / "docs/examples/schedule.yaml"


def test_apply_makes_what_is_missing_and_twice_changes_nothing(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    (row,) = shell("apply")
    assert (row["name"], row["action"]) == ("nightly", "create")
    assert [moment[11:] for moment in row["next"]] == ["02:00:00Z"] * 3
    (made,) = kubeflow.recurring.values()
    assert (made["no_catchup"], made["max_concurrency"], made["status"]) == (True, "1", "ENABLED")
    assert made["trigger"] == {"cron_schedule": {"cron": "0 0 2 * * *"}}
    assert made["runtime_config"]["parameters"] == {"store": "gs://b/s", "cycles": 2}
    assert "pipeline_version_id" not in made["pipeline_version_reference"], "it follows the newest version"
    assert kubeflow.fire(made["recurring_run_id"])
    assert actions(shell("apply")) == [("nightly", "none")]
    assert list(kubeflow.recurring.values()) == [made]


@pytest.mark.parametrize(
    "written",
    [
        {"cron": "@every 12h"},
        {"cron": "", "every": "12h", "description": "one turn\n"},
        {"cron": " 0 0  2 * * *\n", "experiment": "nightly\n"},
    ],
)
def test_what_is_written_otherwise_but_means_the_same_is_no_difference(
    kubeflow: FakeKubeflow, shell: Shell, written: dict[str, str]
):
    shell.write({**NIGHTLY, **written})
    shell("apply")
    (row,) = shell("apply")
    assert (row["action"], row["differences"]) == ("none", [])
    assert len(kubeflow.asked("POST", "/recurringruns$")) == 1


def test_an_interval_that_is_replaced_begins_anew(kubeflow: FakeKubeflow, shell: Shell):
    shell.write({**NIGHTLY, "cron": "@every 12h"})
    shell("apply")
    (made,) = kubeflow.recurring.values()
    made["created_at"] = f"{datetime.now(UTC) - timedelta(hours=11):%Y-%m-%dT%H:%M:%SZ}"
    (row,) = shell("diff")
    assert datetime.fromisoformat(row["next"][0]) < datetime.now(UTC) + timedelta(hours=2)
    shell.write({**NIGHTLY, "cron": "@every 12h", "description": "new"})
    (row,) = shell("diff")
    assert row["action"] == "replace"
    assert datetime.fromisoformat(row["next"][0]) > datetime.now(UTC) + timedelta(hours=11)


def test_what_differs_is_replaced_and_two_are_never_on_at_once(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    shell("apply")
    (before,) = kubeflow.recurring
    most_on = 0

    def look() -> None:
        nonlocal most_on
        most_on = max(most_on, sum(row["status"] == "ENABLED" for row in kubeflow.recurring.values()))

    kubeflow.then("POST", "/recurringruns", look, times=3)
    shell.write({**NIGHTLY, "cron": "0 0 3 * * *", "inputs": {"store": "gs://b/s"}})
    (row,) = shell("diff", "--exit-code")
    assert shell.code == 1
    assert row["differences"] == ["when: 0 0 2 * * * -> 0 0 3 * * *", "inputs.cycles: 2 -> -"]
    assert list(kubeflow.recurring) == [before], "diff changes nothing"
    assert actions(shell("apply")) == [("nightly", "replace")]
    (after,) = kubeflow.recurring.values()
    assert after["recurring_run_id"] != before
    assert (after["status"], most_on) == ("ENABLED", 1)
    (deleted,) = kubeflow.asked("DELETE", "/recurringruns/")
    assert deleted.query == {"propagation_policy": "ORPHAN"}, "a run that is under way goes on"
    shell("diff", "--exit-code")
    assert shell.code == 0


@pytest.mark.parametrize("step", [r"recurringruns$", r":disable", r":enable", "DELETE"])
def test_an_apply_that_was_cut_off_is_finished_by_the_next(kubeflow: FakeKubeflow, shell: Shell, step: str):
    shell.write(NIGHTLY)
    shell("apply")
    shell.write({**NIGHTLY, "cron": "0 0 3 * * *"})
    method, pattern = ("DELETE", "/recurringruns/") if step == "DELETE" else ("POST", step)
    kubeflow.fail(method, pattern, 403)
    with pytest.raises(HQClipError):
        shell("apply")
    assert sum(row["status"] == "ENABLED" for row in kubeflow.recurring.values()) <= 1
    assert actions(shell("apply")) == [("nightly", "replace")]
    (left,) = kubeflow.recurring.values()
    assert (left["trigger"]["cron_schedule"]["cron"], left["status"]) == ("0 0 3 * * *", "ENABLED")
    assert actions(shell("diff")) == [("nightly", "none")]


def test_an_answer_that_got_lost_makes_no_second_schedule(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    kubeflow.commit_then_drop("POST", "/recurringruns$")
    shell("apply")
    assert len(kubeflow.recurring) == 1


def test_a_pinned_schedule_stays_with_its_version_until_the_file_says_otherwise(kubeflow: FakeKubeflow, shell: Shell):
    first = upload(kubeflow, package())
    second = upload(kubeflow, package(sdkVersion="kfp-2.17.1"))
    shell.write({**NIGHTLY, "version": first})
    shell("apply")
    (made,) = kubeflow.recurring.values()
    pinned = made["pipeline_version_reference"]["pipeline_version_id"]
    assert kubeflow.versions[pinned]["display_name"] == first
    assert shell("list")[0]["version"] == first
    shell.write({**NIGHTLY, "version": second})
    assert shell("diff")[0]["differences"] == [f"version: {first} -> {second}"]
    shell.write({**NIGHTLY, "version": "9.9.9"})
    with pytest.raises(ConfigError, match="schedule nightly: pipeline hqclip-try has no version '9.9.9'"):
        shell("apply")


def test_inputs_are_checked_by_the_version_that_will_run(kubeflow: FakeKubeflow, shell: Shell):
    bad = {**NIGHTLY, "inputs": {"cycles": "many", "sotre": "x"}}
    shell.write(bad, {**NIGHTLY, "name": "lonely", "inputs": {}})
    with pytest.raises(ConfigError) as refusal:
        shell("apply")
    said_of_it = str(refusal.value)
    assert "schedule nightly: pipeline input cycles is 'many'; give a whole number" in said_of_it
    assert "unknown input 'sotre'; did you mean 'store'?" in said_of_it
    assert "schedule lonely: input store is missing" in said_of_it
    assert not kubeflow.recurring, "nothing is begun where something is wrong"


def test_inputs_mean_what_they_mean_in_a_file_of_params(kubeflow: FakeKubeflow, shell: Shell):
    shell.write({**NIGHTLY, "inputs": {"store": {"train.learning_rate": 0.001, "seeds": [1, 2]}, "version": None}})
    shell("apply")
    (made,) = kubeflow.recurring.values()
    text = '{"seeds": [1, 2], "train.learning_rate": 0.001}'
    assert made["runtime_config"]["parameters"] == {"store": text, "version": ""}
    assert actions(shell("apply")) == [("nightly", "none")]
    for empty in (None, ""):
        shell.write({**NIGHTLY, "inputs": {"store": empty}})
        with pytest.raises(ConfigError, match="schedule nightly: input store is missing"):
            shell("apply")


def test_text_stays_as_it_is_written(kubeflow: FakeKubeflow, shell: Shell):
    shell.file.write_text(
        "schedules: [{name: a, pipeline: hqclip-try, every: 24h, inputs: {store: 007, version: 1.10}}]"
    )
    shell("apply")
    (made,) = kubeflow.recurring.values()
    assert made["runtime_config"]["parameters"] == {"store": "007", "version": "1.10"}
    assert made["trigger"] == {"periodic_schedule": {"interval_second": "86400"}}
    assert actions(shell("apply")) == [("a", "none")]


def test_pause_and_resume_switch_and_the_file_has_the_last_word(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    shell("apply")
    (made,) = kubeflow.recurring.values()
    shell("pause", "nightly")
    assert made["status"] == "DISABLED"
    assert kubeflow.fire(made["recurring_run_id"]) == ""
    assert shell("list")[0]["next"] == []
    assert actions(shell("diff")) == [("nightly", "enable")]
    shell("resume", made["recurring_run_id"])
    assert made["status"] == "ENABLED"
    shell.write({**NIGHTLY, "enabled": False})
    assert actions(shell("apply")) == [("nightly", "disable")]
    assert (made["status"], len(kubeflow.recurring)) == ("DISABLED", 1)


def test_prune_deletes_ours_and_leaves_what_others_made(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY, {**NIGHTLY, "name": "weekly", "every": "168h", "cron": ""})
    shell("apply")
    shell.write({**NIGHTLY, "name": "elsewhere"}, group="other")
    shell("apply")
    by_hand = dict(next(iter(kubeflow.recurring.values())), recurring_run_id="by-hand", display_name="by-hand")
    kubeflow.recurring["by-hand"] = {**by_hand, "description": ""}
    shell.write(NIGHTLY)
    assert actions(shell("apply")) == [("nightly", "none"), ("weekly", "none")], "without --prune it stays"
    assert actions(shell("apply", "--prune")) == [("nightly", "none"), ("weekly", "delete")]
    names = {row["display_name"] for row in kubeflow.recurring.values()}
    assert names == {"nightly", "elsewhere", "by-hand"}
    shell.write({**NIGHTLY, "name": "by-hand"})
    with pytest.raises(ConflictError, match="a recurring run by-hand that was made otherwise"):
        shell("apply")
    shell.write({**NIGHTLY, "name": "elsewhere"})
    with pytest.raises(ConflictError, match="a recurring run elsewhere of the group other"):
        shell("apply")


def test_a_table_shows_what_changes_a_line_each(
    kubeflow: FakeKubeflow, shell: Shell, capsys: pytest.CaptureFixture[str]
):
    shell.write(NIGHTLY)
    shell("apply")
    shell.write({**NIGHTLY, "cron": "0 0 3 * * *", "start": "2040-01-01T00:00:00Z"})
    parser = Parser()
    schedules.add_arguments(parser)
    assert schedules.run(parser.parse_args(["diff", str(shell.file), "--host", kubeflow.url])) == 0
    assert capsys.readouterr().out.splitlines() == [
        "NAME     ACTION   NEXT",
        "nightly  replace  2040-01-01T03:00, 2040-01-02T03:00, 2040-01-03T03:00",
        "nightly: when: 0 0 2 * * * -> 0 0 3 * * *",
        "nightly: start: - -> 2040-01-01T00:00:00Z",
    ]


def test_a_list_fits_a_terminal(kubeflow: FakeKubeflow, shell: Shell, capsys: pytest.CaptureFixture[str]):
    off = {**NIGHTLY, "name": "judge-every-week", "enabled": False}
    shell.write({**NIGHTLY, "name": "refine-nightly", "cron": "0 0 2 * 1-6 mon-fri"}, off)
    shell("apply")
    parser = Parser()
    schedules.add_arguments(parser)
    assert schedules.run(parser.parse_args(["list", "--host", kubeflow.url])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "PIPELINE", "VERSION", "WHEN", "NEXT_TIME", "GROUP", "ID"]
    assert sorted(line.split()[0] for line in lines[1:]) == ["judge-every-week", "refine-nightly"]
    assert max(map(len, lines)) <= 120 and "  off  " in "".join(lines)


def test_schedules_of_others_are_listed_below_if_asked_for(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    shell("apply")
    (ours,) = kubeflow.recurring.values()
    other = kubeflow.new_pipeline({"name": "neighbour"})["pipeline_id"]
    theirs = {
        **ours,
        "recurring_run_id": "theirs",
        "display_name": "a-neighbours",
        "description": "",
        "created_at": "2020-01-01T00:00:00Z",
        "pipeline_version_reference": {"pipeline_id": other},
    }
    kubeflow.recurring = {"theirs": theirs, **kubeflow.recurring}
    assert [row["name"] for row in shell("list")] == ["nightly"]
    assert [row["name"] for row in shell("list", "--all")] == ["nightly", "a-neighbours"]


def test_each_namespace_has_its_own_schedules(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with FakeKubeflow(multi_user=True, namespaces=("team", "others")) as kubeflow:
        for namespace in ("team", "others"):
            upload(kubeflow, package(), namespace)
        shell = Shell(kubeflow.url, tmp_path / "schedule.yaml", capsys)
        shell.write(NIGHTLY)
        assert actions(shell("apply", "--namespace", "team")) == [("nightly", "create")]
        assert shell("list", "--namespace", "others") == []
        assert actions(shell("diff", "--namespace", "team")) == [("nightly", "none")]
        (made,) = kubeflow.recurring.values()
        assert made["namespace"] == "team"


def test_a_busy_server_is_asked_again(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    kubeflow.fail("POST", ":enable", 503)
    kubeflow.fail("GET", "/recurringruns", 500)
    shell("apply")
    (made,) = kubeflow.recurring.values()
    assert made["status"] == "ENABLED"


def test_delete_takes_a_name_or_an_id(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(NIGHTLY)
    shell("apply")
    (made,) = kubeflow.recurring.values()
    with pytest.raises(NotFoundError, match="no recurring run 'nihgtly'; did you mean 'nightly'"):
        shell("delete", "nihgtly")
    kubeflow.recurring["twin"] = {**made, "recurring_run_id": "twin"}
    with pytest.raises(ConflictError, match="2 recurring runs are called nightly: give an id"):
        shell("delete", "nightly")
    shell("delete", "twin")
    shell("delete", "nightly")
    assert not kubeflow.recurring


def test_more_schedules_than_a_page_holds_are_all_seen(kubeflow: FakeKubeflow, shell: Shell):
    shell.write(*({**NIGHTLY, "name": f"n{number}"} for number in range(3)))
    shell("apply")
    first = next(iter(kubeflow.recurring.values()))
    for number in range(150):
        kubeflow.recurring[f"x{number}"] = {**first, "recurring_run_id": f"x{number}", "display_name": f"x{number}"}
    assert len(shell("list")) == 153


def test_a_schedule_keeps_to_its_start_and_end(kubeflow: FakeKubeflow, shell: Shell):
    times = {"start": "2040-01-01T01:00:00+01:00", "end": "2040-01-02T12:00:00Z"}
    shell.write({**NIGHTLY, **times}, {**NIGHTLY, "name": "slow", "cron": "", "every": "36h", **times})
    nightly, slow = shell("apply")
    assert nightly["next"] == ["2040-01-01T02:00:00Z", "2040-01-02T02:00:00Z"]
    assert slow["next"] == ["2040-01-02T12:00:00Z"]
    assert actions(shell("diff")) == [("nightly", "none"), ("slow", "none")]


def test_an_end_that_has_passed_is_said(kubeflow: FakeKubeflow, shell: Shell):
    over = {**NIGHTLY, "end": "2025-01-02T00:00:00Z"}
    shell.write(over, {**over, "name": "off", "enabled": "false"})
    assert [row["next"] for row in shell("apply")] == [[], []]
    assert "schedule nightly: its end, 2025-01-02T00:00:00Z, has passed; it fires no more" in shell.said
    assert "schedule off" not in shell.said, "nobody expects it to"


def test_the_example_can_be_applied_as_it_is(
    kubeflow: FakeKubeflow, fake_gcs: FakeGcs, capsys: pytest.CaptureFixture[str]
):
    fake_gcs.put("bucket", "machines.yaml", b"scheduler: jobset\nimage: r.example/x:1\nannotate: {}\ntrain: {}\n")
    upload(kubeflow, read_package("refine", "annotate,train"))
    upload(kubeflow, read_package("evaluate"))
    shell = Shell(kubeflow.url, EXAMPLE, capsys)
    assert actions(shell("apply")) == [("refine-nightly", "create"), ("judge-weekly", "create")]
    assert actions(shell("apply")) == [("refine-nightly", "none"), ("judge-weekly", "none")]
    experiments = {row["display_name"] for row in kubeflow.experiments.values()}
    assert "nightly" in experiments
