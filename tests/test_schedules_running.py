"""What a schedule starts and what not, what is said of it, and what of it is refused before it is there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hqclip.errors import ConfigError
from pipelines.client import schedules
from pipelines.client.versions import read_package
from tests.fakes.kubeflow import FakeKubeflow
from tests.scheduling import NIGHTLY, Shell, actions, package, upload


def was_made(kubeflow: FakeKubeflow, days_ago: int) -> dict[str, Any]:
    """The only recurring run, as if it had been there for days."""
    (made,) = kubeflow.recurring.values()
    made["created_at"] = f"{datetime.now(UTC) - timedelta(days=days_ago):%Y-%m-%dT%H:%M:%SZ}"
    return made


@pytest.mark.parametrize("times", [{}, {"start": "2026-01-01T00:00:00Z"}, {"cron": "", "every": "5h"}])
def test_what_was_missed_while_it_was_off_is_not_made_up_for(
    kubeflow: FakeKubeflow, shell: Shell, times: dict[str, str]
):
    shell.write({**NIGHTLY, **times})
    shell("apply")
    before = was_made(kubeflow, days_ago=2)["recurring_run_id"]
    shell("pause", "nightly")
    shell("resume", "nightly")
    (after,) = kubeflow.recurring.values()
    assert after["recurring_run_id"] != before and after["status"] == "ENABLED"
    assert f"is made anew, so that no time that it missed is made up for: {after['recurring_run_id']}" in shell.said
    was_made(kubeflow, days_ago=2)
    shell("pause", "nightly")
    assert actions(shell("apply")) == [("nightly", "enable")]
    assert actions(shell("apply")) == [("nightly", "none")]
    assert len(kubeflow.recurring) == 1 and not kubeflow.runs


def test_what_others_made_is_switched_on_with_a_word_of_what_it_will_start(kubeflow: FakeKubeflow, shell: Shell):
    shell.write({**NIGHTLY, "cron": "0 */5 * * * *"})
    shell("apply")
    by_hand = was_made(kubeflow, days_ago=2)
    by_hand["description"], by_hand["trigger"] = "", {"cron_schedule": {"cron": "*/5 * * * *"}}
    shell("pause", "nightly")
    shell("resume", "nightly")
    assert "nightly was made otherwise and stays: a time that it missed is started within seconds" in shell.said
    assert len(kubeflow.runs) == 1, "as the real one does"
    assert "has five fields" in shell("list", "--all")[0]["next"][0]


@pytest.mark.parametrize("times", [{}, {"cron": "", "every": "36h"}])
def test_a_start_that_has_passed_starts_nothing_at_once(kubeflow: FakeKubeflow, shell: Shell, times: dict[str, str]):
    shell.write({**NIGHTLY, **times, "start": "2026-01-01T00:00:00Z"})
    (row,) = shell("apply")
    assert not kubeflow.runs
    assert actions(shell("diff")) == [("nightly", "none")]
    if times:  # the rhythm is that of the start
        first = datetime.fromisoformat(row["next"][0]) - datetime(2026, 1, 1, tzinfo=UTC)
        assert first.total_seconds() % (36 * 3600) == 0
        shell.write({**NIGHTLY, **times, "start": "2026-01-01T01:00:00Z"})
        assert actions(shell("diff")) == [("nightly", "replace")]


def test_it_is_said_what_pinned_means_and_what_a_long_run_does(kubeflow: FakeKubeflow, shell: Shell):
    first = upload(kubeflow, package())
    shell.write(NIGHTLY, {**NIGHTLY, "name": "held", "version": first}, {**NIGHTLY, "name": "off", "enabled": "false"})
    shell("apply")
    assert "nightly: not pinned: each run takes the version that is newest then; a time that comes while" in shell.said
    assert f"held: pinned to {first}: newer versions do not change it" in shell.said
    shell("apply")
    assert "pinned" not in shell.said, "of what has not changed nothing is said again"


PLACEHOLDERS = (
    "[[ScheduledTime]]",
    "a-[[CurrentTime.2006]]",
    "{{workflow.uid}}",
    "{{$.pipeline_job_uuid}}",
    "[[Index]]",
)


def test_placeholders_are_refused_but_the_one_that_is_filled_in(kubeflow: FakeKubeflow, shell: Shell):
    pinned = {**NIGHTLY, "version": upload(kubeflow, package())}
    scheduled = {"store": schedules.SCHEDULED}
    for text in (*PLACEHOLDERS, f"gs://b/{schedules.SCHEDULED}"):
        shell.write({**pinned, "inputs": {"store": text}})
        with pytest.raises(ConfigError, match="input store is .*: no such placeholder is filled in"):
            shell("apply")
    shell.write({**NIGHTLY, "inputs": scheduled})
    with pytest.raises(ConfigError, match="is the time that was meant only where the version is pinned"):
        shell("apply")
    shell.write(
        {**pinned, "inputs": scheduled}, {**pinned, "name": "json", "inputs": {"store": '[[1], {"a": {"b": 1}}]'}}
    )
    assert actions(shell("apply")) == [("nightly", "create"), ("json", "create")]


def test_one_that_is_wrong_hides_nothing_of_the_others(
    kubeflow: FakeKubeflow, shell: Shell, capsys: pytest.CaptureFixture[str]
):
    shell.write(NIGHTLY)
    shell("apply")
    changed = {**NIGHTLY, "cron": "0 0 3 * * *"}
    shell.write({**NIGHTLY, "name": "lost", "pipeline": "hqclip-tyr"}, changed, {**NIGHTLY, "name": "new"})
    for action in ("diff", "apply"):
        with pytest.raises(ConfigError, match="1 of 3 schedules are wrong, and nothing was changed") as refusal:
            shell(action)
        assert refusal.value.exit_code == 64
        lost, nightly, new = json.loads(capsys.readouterr().out)
        assert lost["action"] == "refused" and "no pipeline 'hqclip-tyr'" in lost["differences"][0]
        assert nightly["differences"] == ["when: 0 0 2 * * * -> 0 0 3 * * *"]
        assert new["action"] == "create"
    assert len(kubeflow.recurring) == 1


def test_what_the_first_task_would_refuse_is_refused_in_a_schedule(kubeflow: FakeKubeflow, shell: Shell):
    upload(kubeflow, read_package("refine"))
    inputs = {"store": "gs://b/s", "download_shards": "gs://b/{0..1}.tar", "evaluate_suite": "gs://b/suite.json"}
    bad = {"train_trials": "hqlcip", "plan_overrides": {"train.learning_rat": 0.1}}
    shell.write({"name": "a", "pipeline": "refine", "every": "24h", "inputs": {**inputs, **bad}})
    with pytest.raises(ConfigError, match=r"learning_rat(.|\n)*hqlcip"):
        shell("diff")
    shell.write(
        {"name": "a", "pipeline": "refine", "every": "24h", "inputs": {**inputs, "plan_overrides": "x" * 100_001}}
    )
    with pytest.raises(ConfigError, match=r"the inputs of the run are 100,\d+ bytes|not valid JSON"):
        shell("diff")
    shell.write({"name": "a", "pipeline": "refine", "every": "24h", "inputs": inputs})
    assert actions(shell("apply")) == [("a", "create")]
