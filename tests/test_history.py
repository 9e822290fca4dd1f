"""The page about all cycles says what their records say, in bounded work, whatever is wrong with some of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from hqclip import cli
from hqclip.cycle.approve import run as approve
from hqclip.cycle.config import ApproveConfig, HistoryConfig
from hqclip.cycle.finish import BUDGET, finish
from hqclip.cycle.history.cycles import middle
from hqclip.cycle.history.memory import KEY as MEMORY
from hqclip.cycle.history.read import read_history
from hqclip.cycle.history.write import run, write_at_the_end
from hqclip.cycle.keys import notes_prefix, record_key
from hqclip.cycle.promote import run as promote
from hqclip.errors import NotFoundError, UnavailableError
from hqclip.records import Sample
from hqclip.report.links import HISTORY, OUTSIDE, address
from hqclip.store import open_store
from hqclip.store.local import LocalStore
from tests.histories import SUITES, Past, a_year
from tests.promoting import config_of, make_cycle
from tests.recording import all_well
from tests.test_report import HOSTILE, Page

LOCKED = "nothing was done, skipped: cycle 2 is being refined by run other (seen 3 s ago)"
NOTHING = "there was nothing to do: cycle 1 is done: the same data, settings and champion"


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path / "store")


def told(past: Past, **given: Any) -> dict[str, Any]:
    """What the command prints as JSON, the page being written."""
    said = run(HistoryConfig(store=str(past.root), format="json", **given))
    assert isinstance(said, dict)
    return said


def page(past: Past) -> Page:
    told(past)
    return Page((past.root / HISTORY).read_text(encoding="utf-8"))


def items(past: Past) -> list[str]:
    """The words of each night of the page that lies open, in their order."""
    told(past)
    text = (past.root / HISTORY).read_text(encoding="utf-8")
    nights = text[text.index("Night by night") :].split('class="older"')[0]
    return [words(Page(one)) for one in re.findall(r"<li (?:id|class=.skipped).*?</div></li>", nights)]


def words(shown: Page) -> str:
    """All that is read, with one space between."""
    return " ".join(" ".join(shown.text).split())


def test_a_cycle_says_its_score_data_faults_time_cost_texts_and_verdict(past: Past) -> None:
    past.cycle(1)
    second = past.cycle(2, "refused")
    newest, first = items(past)
    (gate,) = second.gate
    low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in gate["difference"][1:])
    note = json.loads((past.root / f"{notes_prefix(2)}curate.json").read_text())
    usable, rows, bad = (
        f"{n:,}".replace(",", " ") for n in (note["usable_rows"], note["rows"], note["statuses"]["not_json"])
    )
    assert newest.startswith(f"Cycle 2 2026-01-06 01:30 UTC ✕ Not promoted {second.reason} average")
    assert f"average {100 * gate['candidate']:.1f} %" in newest and f"{low} to {high}" in newest
    assert f"usable samples {usable} of {rows}" in newest
    assert f"not json {bad}, truncated 200, refused 100" in newest
    took = r"\d h \d\d min"
    assert re.search(rf"GPU time {took} \$\d+\.\d\d to \$\d+\.\d\d all stages {took} {took} by the clock", newest)
    assert re.search(r"words a description \d\d drift 0\.\d\d, \w+", newest)
    assert "Cycle 1" in first and "✓ Promoted" in first


def test_annotation_costs_what_its_work_log_gained_in_the_cycle(past: Past) -> None:
    for number in (1, 2, 3):
        past.cycle(number)
    hours = []
    for cycle in told(past)["cycles"]:
        (row,) = [row for row in cycle["stages"] if row["task"] == "annotate"]
        hours.append(row["gpu_seconds"] / 3600)
        assert row["usd"] == pytest.approx((2 * hours[-1], 3 * hours[-1]))
    assert hours == pytest.approx([1.5, 1.5, 1.5])


def test_what_needs_no_gpu_costs_none_and_a_launched_task_the_hours_of_its_nodes(past: Past) -> None:
    past.write("launch/job/1/job.json", {"nproc": 8})
    past.cycle(1, **{"train-hqclip": {"launch": {"key": "job/1", "node_hours": 2.5}}})
    rows = {row["task"]: row for row in told(past)["cycles"][0]["stages"]}
    assert rows["train-hqclip"]["gpu_seconds"] == 2.5 * 8 * 3600
    assert rows["curate"]["gpu_seconds"] == 0 and rows["curate"]["usd"] is None
    assert rows["evaluate-hqclip"]["gpu_seconds"] == pytest.approx(rows["evaluate-hqclip"]["seconds"])


def test_a_cycle_on_the_cpu_says_that_it_used_no_gpu(past: Past) -> None:
    on_cpu = {"work": {"gpu_seconds": 0.0, "devices": ["cpu"]}}
    past.cycle(1, annotate=on_cpu, **{"evaluate-hqclip": {"device": "cpu fp32"}, "score": {"device": "cpu fp32"}})
    assert {row["gpu_seconds"] for row in told(past)["cycles"][0]["stages"]} == {0}
    assert "GPU time no GPU" in items(past)[0]


def test_the_champion_is_a_line_that_steps_where_it_is_replaced_and_breaks_with_the_suite(past: Past) -> None:
    past.cycle(1)
    past.cycle(2, "refused")
    past.cycle(3, "promoted")
    past.cycle(4, "refused", suite=SUITES[1])
    past.cycle(5, "refused", suite=SUITES[1])
    text = page(past)
    charts = [attrs["aria-label"] for attrs in text.all("svg") if "Average" in attrs.get("aria-label", "")]
    assert len(charts) == 2 and "candidate ends at" in charts[0] and "champion ends at" in charts[0]
    assert words(text).count("other suite") == 2 + 4  # the average twice, each benchmark once
    promoted = [attrs for attrs in text.all("circle") if "promoted" in attrs["class"]]
    assert len(promoted) == 2 * (2 + 4)


def test_who_approved_is_told_and_a_winner_that_waits_is_not_in_force(past: Past) -> None:
    past.cycle(1)
    past.cycle(2, "waits for approval")
    assert "… Waits for approval" in items(past)[0] and "of cycle 1" in words(page(past))
    past.approve(2, by="ada", reason="faces look better")
    past.crown(2, 0.4)
    assert "✓ Promoted" in items(past)[0]
    assert "Decision: approved by ada at 2026-02-03 09:12:00 UTC: faces look better" in items(past)[0]
    past.cycle(3, "waits for approval")
    past.approve(3, "rejected", "bob", "worse on text")
    assert "✕ Rejected" in items(past)[0] and "rejected by bob" in items(past)[0]


def test_nights_without_a_cycle_are_told_with_why_and_alike_ones_in_one_line(past: Past) -> None:
    past.cycle(1)
    for _ in range(3):
        past.idle("nothing_to_do", NOTHING)
    past.idle("locked", LOCKED)
    past.idle("failed", "the run failed at plan: no such bucket, exit code 66")
    failed, locked, nothing, cycle = items(past)
    assert "✕ Failed the run failed at plan: no such bucket, exit code 66" in failed
    assert f"Kept out {LOCKED}" in locked
    assert nothing == f"3 runs 2026-01-06 01:30 UTC to 2026-01-08 01:30 UTC Nothing new {NOTHING}"
    assert cycle.startswith("Cycle 1 ")


def test_a_night_that_the_budget_refused_is_told_as_that(past: Past) -> None:
    past.cycle(1)
    reason = "the run was stopped by its budget at plan: it needs 45 of 40 GPU-hours"
    past.idle(BUDGET, reason)
    assert items(past)[0].endswith(f"✕ Budget {reason}")
    assert "nights: budget 1" in words(page(past))


def test_attempts_that_were_repeated_and_runs_that_failed_before_are_told_with_their_cycle(past: Past) -> None:
    past.cycle(1)
    began = json.loads((past.root / "pipelines/run-0001/train/here.json").read_text())["started"]
    stopped = {"exit_code": 143, "reason": "stopped", "error": "SIGTERM was received"}
    past.task("run-0001", "train", began - 900, 800, "first", **stopped)
    past.task("before", "plan", began - 90_000, 5, decided={"has_work": True, "cycle": 1, "reason": "work"})
    past.task("before", "annotate", began - 89_000, None)
    ended = {"outcome": "failed", "task": "annotate", "reason": "the run failed at annotate"}
    past.task("before", "finish", began - 80_000, 1, decided=ended)
    (night,) = items(past)
    assert "run before: the run failed at annotate" in night and "train: 2 attempts; SIGTERM was received" in night
    assert "13 min 20 s of tasks that ended badly" in night
    assert re.search(r"1 d \d h by the clock", night)


def test_a_run_without_an_exit_task_is_told_by_what_its_tasks_said(past: Past) -> None:
    past.cycle(1)
    past.task("lost", "plan", 1.8e9, 5, exit_code=65, reason="data", error="hqclip plan: no such shard")
    assert "No word no exit task said how it ended; plan: hqclip plan: no such shard" in items(past)[0]


def test_pages_lead_to_each_other_and_every_link_leads_to_something(past: Past) -> None:
    past.write("sweeps/0123456789abcdef.json", {"reason": "a has the best average"})
    past.text("sweeps/0123456789abcdef.html", "a page")
    past.cycle(1)
    past.cycle(2)
    found = [attrs["href"] for attrs in page(past).all("a")]
    assert {"000002.html", "../runs/000002-hqclip/tensorboard/", "../sweeps/0123456789abcdef.html"} < set(found)
    assert all(((past.root / "cycles") / unquote(href)).resolve().exists() for href in found)


def test_a_run_is_linked_where_somebody_says_where_kubeflow_is(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HQCLIP_KFP_UI", "https://kubeflow.example/pipeline")
    past.cycle(1)
    hrefs = [attrs["href"] for attrs in page(past).all("a")]
    assert "https://kubeflow.example/pipeline/#/runs/details/run-0001" in hrefs


@pytest.mark.parametrize(
    ("uri", "here", "href"),
    [
        ("/data/store", HISTORY, "../datasets/a/sheet.html"),
        ("s3://bucket/x", HISTORY, "../datasets/a/sheet.html"),
        ("gs://bucket/x", HISTORY, "https://storage.cloud.google.com/bucket/x/datasets/a/sheet.html"),
        ("gs://bucket/x", OUTSIDE, "https://storage.cloud.google.com/bucket/x/datasets/a/sheet.html"),
        ("/data/store", OUTSIDE, "file:///data/store/datasets/a/sheet.html"),
        ("s3://bucket/x", OUTSIDE, ""),
    ],
)
def test_links_are_relative_where_that_leads_anywhere(uri: str, here: str, href: str) -> None:
    assert address(uri, here, "datasets/a/sheet.html") == href


def test_a_link_leads_into_the_store_whatever_a_record_says() -> None:
    assert address("/data/store", HISTORY, "javascript:alert(1)") == "../javascript%3Aalert%281%29"


@pytest.mark.parametrize("key", [record_key(2), "cycles/000002.plan.json", "cycles/000002.stages/curate.json"])
@pytest.mark.parametrize("content", ["{", "[]", '{"kind": "cycle", "format": 1}', '{"rows": "many", "work": 7}'])
def test_a_damaged_record_is_named_and_hides_no_other_cycle(past: Past, key: str, content: str) -> None:
    for number in (1, 2, 3):
        past.cycle(number)
    past.text(key, content)
    assert [cycle["cycle"] for cycle in told(past)["cycles"]] == [1, 2, 3]
    text = words(page(past))
    assert all(f"Cycle {number} 2026" in text for number in (1, 2, 3))
    harmless = key.endswith("curate.json") and content.startswith('{"')  # says nothing, and nothing wrong
    assert harmless or (key in text and "What is missing" in text)


@pytest.mark.parametrize("field", ["runs", "gate", "candidate", "dataset", "failed", "parent"])
@pytest.mark.parametrize("value", [None, "x", [{"rule": "margin"}]])
def test_a_record_with_odd_content_is_a_problem_at_most(past: Past, field: str, value: Any) -> None:
    past.cycle(1)
    past.cycle(2)
    path = past.root / record_key(2)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert [cycle["verdict"] for cycle in told(past)["cycles"]][0] == "promoted"


def test_what_was_deleted_is_not_told_of_and_not_missed(past: Past) -> None:
    past.cycle(1)
    past.cycle(2)
    for path in sorted((past.root / "datasets").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    said = told(past)
    assert said["problems"] == () and [cycle["texts"] for cycle in said["cycles"]] == [{}, {}]
    assert not [attrs for attrs in page(past).all("a") if "datasets" in attrs["href"]]


def test_what_was_read_before_is_told_after_it_was_deleted(past: Past) -> None:
    past.cycle(1)
    before = told(past)["cycles"][0]["texts"]
    (past.root / f"datasets/{1:016x}/statistics.json").unlink()
    assert told(past)["cycles"][0]["texts"] == before and before["tag_entropy"] > 7


def test_a_night_reads_what_is_new(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 8):
        past.cycle(number)
    told(past)
    past.cycle(8)
    read: list[str] = []
    original = LocalStore.read

    def reading(self: LocalStore, key: str, *args: Any) -> bytes:
        read.append(key)
        return original(self, key, *args)

    monkeypatch.setattr(LocalStore, "read", reading)
    assert len(told(past)["cycles"]) == 8
    assert {key for key in read if re.search(r"0[1-7][/.]|run-000[1-7]", key)} == set()
    assert record_key(8) in read and len(read) < 30
    assert not [key for key in read if "outcomes" in key or "shards" in key]


def test_a_decision_that_comes_later_is_seen(past: Past) -> None:
    past.cycle(1, "waits for approval")
    assert told(past)["cycles"][0]["verdict"] == "waits for approval"
    past.approve(1)
    assert told(past)["cycles"][0]["verdict"] == "promoted"


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', "{}"])
def test_without_what_was_read_before_everything_is_read_anew(past: Past, content: str) -> None:
    past.cycle(1)
    said = told(past)
    kept = json.loads((past.root / MEMORY).read_text())
    damaged = json.dumps({**kept, "cycles": [{"cycle": 1, "seen": kept["cycles"][0]["seen"]}], "runs": 7})
    for text in (content, damaged):
        past.text(MEMORY, text)
        assert told(past) == said


def test_the_same_records_give_the_same_page_whether_remembered_or_read(past: Past) -> None:
    for number in (1, 2):
        past.cycle(number)
    pages = []
    for _ in range(2):
        told(past)
        pages.append((past.root / HISTORY).read_bytes())
    (past.root / MEMORY).unlink()
    told(past)
    assert pages[0] == pages[1] == (past.root / HISTORY).read_bytes()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_words_are_shown_and_never_run(past: Past, text: str) -> None:
    past.cycle(1)
    past.cycle(2, "waits for approval")
    odd = text.replace("\ud800", "")
    path = past.root / record_key(2)
    path.write_text(json.dumps({**json.loads(path.read_text()), "reason": odd, "verdict": "waits for approval"}))
    past.approve(2, by=odd, reason=odd)
    past.idle("failed", odd)
    past.write("cycles/000002.stages/download.json", {"faults": {odd: 3}, "seconds": 1})
    shown = page(past)
    assert {"script", "iframe", "object"}.isdisjoint(tag for tag, _ in shown.tags)
    assert all("onload" not in attrs and "onerror" not in attrs for _, attrs in shown.tags)


@pytest.mark.parametrize("cycles", [0, 1, 2, 30])
def test_it_is_one_file_without_scripts_however_many_cycles_there_are(past: Past, cycles: int) -> None:
    for number in range(1, cycles + 1):
        past.cycle(number)
    LocalStore(past.root).write("shards/0.tar", b"downloaded, and nothing more was done")
    shown = page(past)
    assert {"script", "link", "img"}.isdisjoint(tag for tag, _ in shown.tags)
    assert shown.headings[0] == 1 and len([attrs for attrs in shown.all("li") if attrs.get("id")]) == cycles
    assert bool(shown.all("svg")) == (cycles > 1)
    assert ("No cycle was planned yet." in shown.words) == (cycles == 0)


@pytest.mark.slow
def test_a_year_of_nights_is_a_page_that_opens_at_once(tmp_path: Path) -> None:
    past = a_year(tmp_path / "store", 400)
    shown = page(past)
    assert len([attrs for attrs in shown.all("li") if attrs.get("id")]) == 400
    assert len(shown.all("details")) == 16  # months
    assert (past.root / HISTORY).stat().st_size < 2_000_000
    few = told(past, last=10)
    assert [cycle["cycle"] for cycle in few["cycles"]] == list(range(391, 401)) and len(few["runs"]) == 20
    assert few["left_out"]["cycles"] == 390
    assert "Older ones are left out: 390 cycles and" in words(Page((past.root / HISTORY).read_text()))


def test_the_page_can_lie_elsewhere_and_the_store_stays_as_it_is(past: Past, tmp_path: Path) -> None:
    past.cycle(1)
    told(past, html=str(tmp_path / "out/history.html"))
    assert not (past.root / HISTORY).exists() and not (past.root / MEMORY).exists()
    hrefs = [attrs["href"] for attrs in Page((tmp_path / "out/history.html").read_text()).all("a")]
    assert (past.root / "cycles/000001.html").as_uri() in hrefs


def test_the_command_prints_a_line_a_cycle_and_where_the_page_is(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    past.cycle(1)
    past.cycle(2, "refused")
    assert cli.main(["history", "--store", str(past.root)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"\| 2 +\| 2026-01-06 01:30 \| refused +\| \d+\.\d% .*\| \$\d+\.\d\d to \$\d+\.\d\d \|", out)
    assert out.endswith(f"page: {past.root}/{HISTORY}\n")
    assert cli.main(["history", "--store", str(past.root), "--format", "json"]) == 0
    assert [cycle["cycle"] for cycle in json.loads(capsys.readouterr().out)["cycles"]] == [1, 2]


def test_a_place_without_a_store_is_named_and_gets_no_page(tmp_path: Path) -> None:
    for given in ({}, {"html": str(tmp_path / "history.html")}):
        with pytest.raises(NotFoundError, match="no store of hqclip"):
            run(HistoryConfig(store=str(tmp_path / "slip"), **given))
    assert not list(tmp_path.iterdir())


def test_the_median_of_a_histogram_lies_where_half_has_passed() -> None:
    assert middle({"from": [0, 10, 20], "counts": [2, 2, 0]}) == 10
    assert middle({"from": [0, 10, 20], "counts": [0, 4, 0]}) == 15
    assert middle({"from": [0, 10, 20], "counts": [0, 0, 3]}) == 20
    assert middle({"from": [0, 10, 20], "counts": [0, 0, 0]}) is None


@pytest.fixture
def judged(tmp_path: Path, draw_samples: Any) -> str:
    """The root of a store with a first cycle that is judged, all but promoted."""
    samples: list[Sample] = draw_samples(20)
    return make_cycle(tmp_path, samples)


def test_promote_approve_and_the_exit_task_write_it(judged: str) -> None:
    store = open_store(judged)
    promote(config_of(judged))
    assert "Cycle 1 is the newest: promoted." in Page(store.read(HISTORY).decode()).words
    store.delete(HISTORY)
    all_well(store, "some-run")
    finish(judged, "some-run")
    assert store.exists(HISTORY) and "some-run" in store.read(MEMORY).decode()


def test_the_page_of_a_cycle_says_what_it_cost_and_leads_on(judged: str) -> None:
    store = open_store(judged)
    note = {"seconds": 7200.0, "device": "cuda bf16", "samples_seen": 5}
    store.write(f"{notes_prefix(1)}train-raw.json", json.dumps(note).encode())
    promote(config_of(judged))
    shown = Page(store.read("cycles/000001.html").decode())
    assert "What it cost" in words(shown) and "train-raw 2 h 00 min 2 h 00 min $" in words(shown)
    assert {"history.html", "../runs/000001-raw/tensorboard/"} < {attrs["href"] for attrs in shown.all("a")}


def test_whatever_is_wrong_with_the_page_no_cycle_fails(
    judged: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for fault in (UnavailableError("no answer"), RuntimeError("a bug")):

        def broken(*_: object, fault: Exception = fault) -> None:
            raise fault

        monkeypatch.setattr("hqclip.cycle.history.write.read_history", broken)
        write_at_the_end(open_store(judged))
        assert f"history: cycles/history.html was not written: {fault}" in capsys.readouterr().err
    assert promote(config_of(judged))["verdict"] == "promoted"


def test_a_waiting_winner_that_is_approved_is_on_the_page_at_once(judged: str) -> None:
    config = config_of(judged)
    promote(type(config).from_mapping({**config.to_mapping(), "approval": True}))
    assert "waits for approval" in Page(open_store(judged).read(HISTORY).decode()).words
    approve(ApproveConfig(store=judged, cycle=1, by="ada"))
    assert "Decision: approved by ada" in Page(open_store(judged).read(HISTORY).decode()).words


def test_a_store_out_of_reach_is_an_error_of_the_command(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    past.cycle(1)

    def gone(*_: object) -> bytes:
        raise UnavailableError("no answer")

    monkeypatch.setattr(LocalStore, "read", gone)
    with pytest.raises(UnavailableError):
        read_history(open_store(str(past.root)), 10)
