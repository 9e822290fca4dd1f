"""A store with as many cycles as one likes, night after night, made by hand: the small records that cycles leave."""

from __future__ import annotations

import dataclasses
import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hqclip.curate.counting import Count
from hqclip.curate.statistics import BINS
from hqclip.cycle.keys import approval_key, notes_prefix, plan_key, record_key
from hqclip.records import Approval, BenchmarkScore, Champion, CyclePlan, CycleRecord, Evaluation, Manifest
from hqclip.task_records import TaskRecord

GPU = "NVIDIA H100 80GB HBM3"
FIRST = datetime(2026, 1, 5, 1, 30, tzinfo=UTC)
SUITES = ("a" * 16, "b" * 16)
STAGES = {"plan": 20, "download": 300, "annotate": 5400, "score": 600, "curate": 400, "train": 7200, "evaluate": 900}
HOUR_S = 3600.0


class Past:
    """Writes into `root` what nights leave there. Files are written as they are, without the care of a store."""

    def __init__(self, root: Path, seed: int = 0) -> None:
        self.root, self.random, self.champion = (
            root,
            random.Random(seed),
            Champion(model="", model_digest="", evaluation="", cycle=0),
        )
        self.score, self.logged, self.nights = 0.30, 0.0, 0

    def cycle(self, number: int, verdict: str = "", suite: str = SUITES[0], **notes: dict[str, Any]) -> CycleRecord:
        """A night in which a cycle was closed; without a `verdict` by chance."""
        began = self._night()
        run, digest, name = f"run-{number:04d}", f"{number:016x}", f"runs/{number:06d}-hqclip"
        average = 0.3 + 0.3 * number / (number + 120) + self.random.uniform(-0.02, 0.02)
        verdict = verdict or ("promoted" if average > self.score + 0.005 or number == 1 else "refused")
        self._notes(number, began, run, digest, notes)
        self._judged(number, digest, suite, average)
        lead = average - self.score
        gate = {"rule": "margin", "metric": "average", "candidate": average, "threshold": 0.005, "passed": lead > 0.005}
        gate |= (
            {"champion": self.score, "difference": [lead, lead - 0.012, lead + 0.013]} if self.champion.cycle else {}
        )
        record = CycleRecord(
            cycle=number,
            parent=self.champion.cycle,
            fingerprint=digest,
            dataset=f"datasets/{digest}/dataset.json",
            runs=(
                {
                    "name": "hqclip",
                    "run": name,
                    "model_digest": digest,
                    "evaluation": f"evaluations/{digest}/{suite}.json",
                    "average": average,
                },
            ),
            candidate=f"{name}/model",
            verdict=verdict,
            reason=f"average {average:.1%} against {self.score:.1%} of the champion",
            report=f"cycles/{number:06d}.html",
            gate=(gate,),
            provenance={"time": _iso(began + sum(STAGES.values()) + 1800), "run": run},
        )
        self.write(record_key(number), record)
        self.text(record.report, "a page")
        if verdict == "promoted":
            self.crown(number, average)
        return record

    def crown(self, number: int, average: float) -> None:
        """Put the candidate of a cycle in force."""
        digest = f"{number:016x}"
        model, evaluation = f"runs/{number:06d}-hqclip/model", f"evaluations/{digest}/{SUITES[0]}.json"
        self.champion = Champion(model=model, model_digest=digest, evaluation=evaluation, cycle=number)
        self.score = average
        self.write("champion.json", self.champion)

    def approve(self, number: int, decision: str = "approved", by: str = "ada", reason: str = "looks good") -> None:
        """A person's decision on a winner that waits."""
        at = "2026-02-03 09:12:00 UTC"
        self.write(approval_key(number), Approval(cycle=number, decision=decision, by=by, at=at, reason=reason))

    def idle(self, outcome: str, reason: str, run: str = "") -> str:
        """A night without a cycle: nothing new, kept out by the lock, or one that failed."""
        began, run = self._night(), run or f"idle-{self.nights:04d}"
        told = {"has_work": False, "reason": reason, "cycle": 0, "locked_by": "other" if outcome == "locked" else ""}
        self.task(run, "plan", began, 5, decided=told)
        self.task(run, "finish", began + 6, 1, decided={"outcome": outcome, "task": "", "reason": reason})
        return run

    def task(self, run: str, stage: str, began: float, took: float | None, pod: str = "here", **about: Any) -> None:
        """What one attempt at a task told; one that took None was killed."""
        ended = None if took is None else began + took
        code = about.pop("exit_code", None if took is None else 0)
        record = TaskRecord(run=run, stage=stage, pod=pod, started=began, ended=ended, exit_code=code, **about)
        self.write(record.key, record)

    def write(self, key: str, document: Manifest | dict[str, Any]) -> None:
        """A document as it lies in the store."""
        data = document.to_json().decode() if isinstance(document, Manifest) else json.dumps(document)
        self.text(key, data)

    def text(self, key: str, text: str) -> None:
        """Any object."""
        path = self.root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _night(self) -> float:
        self.nights += 1
        return (FIRST + timedelta(days=self.nights - 1)).timestamp()

    def _notes(self, number: int, began: float, run: str, digest: str, more: dict[str, dict[str, Any]]) -> None:
        plan = CyclePlan(
            cycle=number,
            fingerprint=digest,
            champion=None,
            settings={"annotate": {"gpu_prices": ["H100=2.0-3.0"]}},
            trials=({"name": "hqclip", "settings": {}},),
            provenance={"time": _iso(began), "run": run},
        )
        self.write(plan_key(number), plan)
        rows = 100_000 + 500 * number
        bad = 1000 + self.random.randrange(400)
        statuses = {"ok": rows - bad - 300, "not_json": bad, "truncated": 200, "refused": 100}
        drift = {"tags": self.random.uniform(0, 0.08), "words_per_description": self.random.uniform(0, 0.3)}
        self.logged += STAGES["annotate"]
        work = {"gpu_seconds": self.logged, "devices": [GPU], "images": rows}
        notes: dict[str, dict[str, Any]] = {
            "download": {"faults": {"not_an_image": 12}, "rows": rows},
            "annotate": {"annotator": "c" * 16, "rows": rows, "statuses": statuses, "work": work},
            "score": {"device": "cuda bf16"},
            "curate": {
                "dataset": f"datasets/{digest}/dataset.json",
                "rows": rows,
                "usable_rows": rows - bad - 300,
                "statuses": statuses,
                "flags": {"short": 17},
                "drift": drift,
            },
            "train-hqclip": {"samples_seen": 1},
            "evaluate-hqclip": {"device": "cuda bf16"},
        }
        at = began
        for name, seconds in STAGES.items():
            decided = {"has_work": True, "cycle": number, "reason": "work"} if name == "plan" else {}
            took = seconds * self.random.uniform(0.8, 1.2)
            self.task(run, name, at, took, decided=decided)
            at += took + 60
            for task, note in notes.items():
                if task.partition("-")[0] == name:
                    note["seconds"] = took
        self.task(run, "finish", at, 1, decided={"outcome": "succeeded", "task": "", "reason": "the run succeeded"})
        for task, note in {**notes, **more}.items():
            self.write(f"{notes_prefix(number)}{task}.json", {**notes.get(task, {}), **note})
        self._statistics(number, digest)

    def _statistics(self, number: int, digest: str) -> None:
        count = Count()
        for name, starts in BINS.items():
            count.histograms[name] = [self.random.randrange(5, 90) if 3 < n < 9 else 0 for n in range(len(starts))]
        statistics = dataclasses.replace(
            count.statistics({"dog": 5}),
            tag_entropy=8 - number / 300,
            shares={"duplicate_descriptions": 0.01 + number / 9000, "top_opening": 0.03, "long_sentences": 0.0},
        )
        self.write(f"datasets/{digest}/statistics.json", statistics)
        self.text(f"datasets/{digest}/sheet.html", "a page")

    def _judged(self, number: int, digest: str, suite: str, average: float) -> None:
        names = ("imagenet", "coco", "winoground", "sugarcrepe")
        evaluation = Evaluation(
            model=f"runs/{number:06d}-hqclip/model",
            model_digest=digest,
            suite="quiz",
            suite_digest=suite,
            benchmarks=tuple(_benchmark(name, average + 0.1 * n - 0.15) for n, name in enumerate(names)),
            average=average,
            outcomes="outcomes.parquet",
        )
        self.write(f"evaluations/{digest}/{suite}.json", evaluation)
        self.text(f"runs/{number:06d}-hqclip/tensorboard/events", "curves")


def a_year(root: Path, cycles: int = 400) -> Past:
    """Nightlies with all that may happen to them."""
    past = Past(root)
    for number in range(1, cycles + 1):
        if number % 9 == 0:
            past.idle("nothing_to_do", f"there was nothing to do: cycle {number - 1} is done: the same data")
        if number % 31 == 0:
            past.idle("locked", "nothing was done, skipped: cycle 12 is being refined by run other (seen 3 s ago)")
        if number % 40 == 0:
            past.idle("failed", "the run failed at plan: shards gs://pool/x: no such bucket, exit code 66")
        waits = number % 25 == 0
        record = past.cycle(number, "waits for approval" if waits else "", suite=SUITES[number > 0.7 * cycles])
        if waits and number % 50 == 0:
            past.approve(number)
            past.crown(number, record.runs[0]["average"])
        if number % 17 == 0:
            began = past.random.uniform(0, 1) + FIRST.timestamp() + past.nights * 24 * HOUR_S - 23 * HOUR_S
            past.task(f"run-{number:04d}", "train", began, 900, "first", exit_code=143, error="SIGTERM was received")
    return past


def _benchmark(name: str, value: float) -> BenchmarkScore:
    return BenchmarkScore(name, "choice", {"acc": value}, "acc", 1000, (value - 0.02, value + 0.02))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
