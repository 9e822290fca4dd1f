"""What people are told of runs, cycles and nights: by the exit task, by the gate, and by who watches both."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hqclip.cli import main
from hqclip.cycle import absence, lock, promote
from hqclip.cycle.finish import finish
from hqclip.cycle.run_state import OVER, RUNNING
from hqclip.notify.config import EVENTS, WatchConfig
from hqclip.records import Sample
from hqclip.store import Store, open_store
from tests.fakes.receivers import FakeWeb
from tests.promoting import config_of, make_cycle
from tests.recording import all_well, tell

RUN = "7e742f44-dab6-40f8-97af-a1a752dcb362"
HOUR = 3600.0
PLAN = {"has_work": True, "reason": "cycle 3 has work", "cycle": 3, "trials": ["raw"], "locked_by": ""}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWeb]:
    with FakeWeb() as fake:
        monkeypatch.setenv("HQCLIP_NOTIFY_WEBHOOK_URL", fake.url)
        monkeypatch.setenv("HQCLIP_KFP_UI", "https://kubeflow.example/pipeline")
        yield fake


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`state(OVER)`: what Kubernetes says of every run."""

    def say(state: str) -> None:
        monkeypatch.setattr(absence, "state_of", lambda _: state)

    say("")
    return say


def told(web: FakeWeb) -> list[dict[str, Any]]:
    return [body for _, _, body in web.taken]


def watch(store: Store, **given: Any) -> dict[str, Any]:
    return absence.watch(WatchConfig(store=store.uri, **given))


def begun(store: Store, hours_ago: float, exit_code: int | None = 0, run: str = RUN) -> float:
    at = time.time() - hours_ago * HOUR
    tell(store, run, "plan", at, exit_code, decided=PLAN)
    return at


def test_the_exit_task_tells_of_a_failed_run_with_where_why_and_links(store: Store, web: FakeWeb) -> None:
    all_well(store, RUN, trials=("raw",), until="train")
    tell(store, RUN, "train", 300.0, 65, trial="raw", error="hqclip train: the loss is nan")
    reason = finish(store.uri, RUN)
    (message,) = told(web)
    assert message["event"] == "failed" and message["title"] == "hqclip: a run failed at train-raw (cycle 1)"
    assert message["why"] == reason and "the loss is nan, exit code 65" in reason
    assert message["links"] == {
        "run": f"https://kubeflow.example/pipeline/#/runs/details/{RUN}",
        "next": f"python -m pipelines explain {RUN}",
    }
    finish(store.uri, RUN)
    watch(store)
    assert len(told(web)) == 1


def test_a_run_that_was_kept_out_says_by_whom(store: Store, web: FakeWeb) -> None:
    why = "skipped: cycle 1 is being refined by run monday"
    tell(store, RUN, "plan", 1.0, decided={"has_work": False, "reason": why, "locked_by": "monday"})
    finish(store.uri, RUN)
    (message,) = told(web)
    assert message["event"] == "locked" and why in message["why"]
    assert message["links"]["next"] == "python -m pipelines status monday"


def test_a_run_with_nothing_to_do_is_silent_unless_it_is_asked_for(
    store: Store, web: FakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"has_work": False, "reason": "cycle 1 is done", "locked_by": ""}
    tell(store, RUN, "plan", 1.0, decided=nothing)
    finish(store.uri, RUN)
    assert told(web) == []
    monkeypatch.setenv("HQCLIP_NOTIFY_SILENT", "locked")
    tell(store, "other", "plan", 1.0, decided=nothing)
    finish(store.uri, "other")
    assert [message["event"] for message in told(web)] == ["nothing_to_do"]


def test_a_run_for_data_only_has_its_page(store: Store, web: FakeWeb) -> None:
    all_well(store, RUN)
    tell(store, RUN, "curate", 500.0, decided={"dataset": "datasets/d/dataset.json", "report": "datasets/d/page.html"})
    finish(store.uri, RUN)
    (message,) = told(web)
    assert message["event"] == "succeeded" and message["links"]["page"] == f"{store.uri}/datasets/d/page.html"


def test_the_gate_tells_with_its_table_and_the_exit_task_does_not_repeat_it(
    tmp_path: Path, web: FakeWeb, draw_samples: Callable[..., list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HQCLIP_RUN", RUN)
    root = make_cycle(tmp_path, draw_samples(8))
    result = promote.run(config_of(root))
    (message,) = told(web)
    assert message["event"] == "promoted" and message["cycle"] == 1 and message["run"] == RUN
    assert message["title"] == "hqclip: cycle 1: runs/000001-hqclip/model is in force"
    assert message["table"] == result["table"] and "| 60.0%" in result["table"]
    assert message["why"] == result["reason"]
    assert message["links"]["page"].endswith("/cycles/000001.html")
    assert message["links"]["next"].endswith(" --cycle 1")
    promote.run(config_of(root))
    store = open_store(root)
    all_well(store, RUN, trials=("raw", "hqclip"))
    finish(root, RUN)
    watch(store)
    assert len(told(web)) == 1


def test_the_exit_task_tells_the_verdict_that_the_gate_could_not(
    tmp_path: Path, web: FakeWeb, draw_samples: Callable[..., list[Sample]]
) -> None:
    root = make_cycle(tmp_path, draw_samples(8))
    web.manner = "500"
    result = promote.run(config_of(root))
    web.manner = "well"
    store = open_store(root)
    all_well(store, RUN, trials=("raw", "hqclip"))
    finish(root, RUN)
    assert [message["table"] for message in told(web)] == [result["table"]]


def test_a_winner_that_waits_is_no_champion_kept(
    tmp_path: Path, web: FakeWeb, draw_samples: Callable[..., list[Sample]]
) -> None:
    root = make_cycle(tmp_path, draw_samples(8))
    promote.run(replace(config_of(root), approval=True))
    (message,) = told(web)
    assert message["event"] == "waits"
    assert message["title"] == "hqclip: cycle 1: runs/000001-hqclip/model waits for approval"
    assert f"hqclip approve --store {root} --cycle 1" in message["why"]


def test_a_champion_that_was_kept_says_so(store: Store, web: FakeWeb) -> None:
    all_well(store, RUN, trials=("raw",), until="promote")
    kept = {"cycle": 1, "verdict": "refused", "reason": "average 50.0%: less than the margin of 0.5%"}
    tell(store, RUN, "promote", 900.0, decided=kept)
    table = json.dumps({"table": "| a |"}).encode()
    store.write("cycles/000001.stages/promote.json", table)
    finish(store.uri, RUN)
    (message,) = told(web)
    assert (message["event"], message["title"]) == ("kept", "hqclip: cycle 1: the champion was kept")
    assert (message["why"], message["table"]) == (kept["reason"], "| a |")


def test_a_dead_receiver_does_not_change_what_the_exit_task_says(store: Store, web: FakeWeb) -> None:
    web.manner = "500"
    all_well(store, RUN)
    assert finish(store.uri, RUN) == "the run succeeded: datasets/d/dataset.json"
    web.manner = "well"
    assert watch(store)["not_sent"] == []
    assert [message["event"] for message in told(web)] == ["succeeded"]


def test_a_run_that_was_terminated_is_noticed_by_who_watches(
    store: Store, web: FakeWeb, state: Callable[[str], None]
) -> None:
    begun(store, 1.0)
    tell(store, RUN, "annotate", time.time() - 0.5 * HOUR, 143, error="hqclip annotate: SIGTERM was received")
    state(RUNNING)
    assert watch(store)["ended"] == {} and told(web) == []
    state(OVER)
    assert watch(store)["ended"] == {RUN: "cancelled"}
    (message,) = told(web)
    assert "the run was cancelled, or lost its machines, while annotate went on" in message["why"]
    assert message["title"] == f"hqclip: {EVENTS['cancelled']} at annotate (cycle 3)"
    assert watch(store)["ended"] == {} and len(told(web)) == 1


def test_the_exit_task_has_time_to_say_so_itself(store: Store, web: FakeWeb, state: Callable[[str], None]) -> None:
    state(OVER)
    begun(store, 0.1)
    assert watch(store)["ended"] == {}


def test_a_run_of_which_nothing_is_known_is_lost_after_a_day_unless_it_holds_the_store(
    store: Store, web: FakeWeb, state: Callable[[str], None]
) -> None:
    begun(store, 30.0, None)
    lock.take(store, RUN, 3)
    assert watch(store)["ended"] == {}
    lock.release(store, RUN)
    assert watch(store, lost_hours=40.0)["ended"] == {}
    assert watch(store)["ended"] == {RUN: "cancelled"}
    assert "no sign of life for 30 hours" in told(web)[0]["why"]


def test_an_end_that_the_exit_task_could_not_tell_is_told(
    store: Store, web: FakeWeb, state: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    at = begun(store, 2.0, 65)
    tell(store, RUN, "finish", at + 10, decided={"outcome": "failed", "task": "plan", "reason": "..."})
    assert watch(store)["ended"] == {RUN: "failed"}
    assert told(web)[0]["title"] == "hqclip: a run failed at plan"


def test_what_ended_long_before_somebody_watched_is_no_news(
    store: Store, web: FakeWeb, state: Callable[[str], None]
) -> None:
    state(OVER)
    begun(store, 100.0, 65)
    assert watch(store)["ended"] == {} and told(web) == []
    assert list(store.list("notices/")) == [f"notices/run-{RUN}.done"]


def test_sweeps_and_evaluations_have_no_exit_task_and_are_not_missed(
    store: Store, web: FakeWeb, state: Callable[[str], None]
) -> None:
    state(OVER)
    tell(store, RUN, "sweep", time.time() - HOUR)
    assert watch(store)["ended"] == {}


def test_a_night_without_a_run_is_told_once(
    store: Store, web: FakeWeb, state: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    state(RUNNING)
    nightly = {"expect_every_hours": 24.0}
    assert watch(store, **nightly)["never_started"] == ""
    begun(store, 25.0)
    assert watch(store, **nightly)["never_started"] == ""
    begun(store, 60.0, run="the-night-before")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 2 * HOUR)
    for _ in range(2):
        assert f"the last run, {RUN}, began 27 hours ago" in watch(store, **nightly)["never_started"]
    (message,) = told(web)
    assert message["event"] == "never_started" and "schedule" in message["links"]["next"]
    monkeypatch.setattr(time, "time", lambda: now + 26 * HOUR)
    watch(store, **nightly)
    assert [message["event"] for message in told(web)] == ["never_started"] * 2
    begun(store, 0.0, run="tonight")
    assert watch(store, **nightly)["never_started"] == ""


def test_who_watches_without_receivers_is_told_what_to_set(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["notify", "watch", "--store", store.uri]) == 64
    assert "set HQCLIP_NOTIFY_SLACK_URL" in capsys.readouterr().err


def test_a_page_in_a_bucket_is_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    from hqclip.cycle.notices import page_of

    class Bucket:
        uri = "gs://bucket/hqclip"

    page = page_of(Bucket(), "cycles/000003.html")  # type: ignore[arg-type]
    assert page == "https://storage.cloud.google.com/bucket/hqclip/cycles/000003.html"


@pytest.mark.parametrize("odd", [{}, {"cycle": {}}, *({"has_work": True, "trials": trials} for trials in (5, None))])
def test_a_run_whose_plan_says_odd_things_hides_no_other(
    store: Store, web: FakeWeb, state: Callable[[str], None], odd: dict[str, Any]
) -> None:
    state(OVER)
    tell(store, "a-strange-one", "plan", time.time() - HOUR, decided=odd)
    begun(store, 1)
    assert watch(store)["ended"][RUN] == "cancelled"
    assert [message["event"] for message in told(web) if RUN in str(message["links"])] == ["cancelled"]


ODD = {"decided": [], "job": "j", "launched": 1, "started": "yesterday", "ended": [1], "stage": 5, "exit_code": "0"}


@pytest.mark.parametrize("field", ODD)
def test_a_record_that_is_damaged_is_left_out_and_hides_no_other(
    store: Store, web: FakeWeb, state: Callable[[str], None], field: str
) -> None:
    state(OVER)
    begun(store, 30)
    record = json.loads(store.read(next(iter(store.list("pipelines/")))))
    odd = json.dumps({**record, "run": "other", field: ODD[field]}).encode()
    store.write("pipelines/other/plan/p.json", odd)
    said = watch(store, expect_every_hours=24.0)
    assert said["ended"] == {RUN: "cancelled"} and RUN in said["never_started"]
