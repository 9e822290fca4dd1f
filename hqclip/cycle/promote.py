"""Evaluations of the candidates in, a verdict out: the champion pointer, the cycle record, the report."""

from __future__ import annotations

from typing import Any

from hqclip.config import PromoteConfig
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.plan import record_key
from hqclip.cycle.report import comparison, write_report
from hqclip.errors import ConflictError, NotFoundError
from hqclip.records import Champion, CyclePlan, CycleRecord, Evaluation
from hqclip.report.text import text_table
from hqclip.store import Store, open_store


def run(config: PromoteConfig) -> dict[str, Any]:
    """Choose the best candidate, put it in force if it wins, and close the cycle. A closed cycle stays as it is."""
    store = open_store(config.store)
    plan = CyclePlan.from_json(store.read(config.plan), config.plan)
    key = record_key(plan.cycle)
    if store.exists(key):
        return {**_summary(store, CycleRecord.from_json(store.read(key), key)), "already_done": True}
    evaluations = {name: Evaluation.from_json(store.read(name), name) for name in config.evaluations}
    best_key, best = max(evaluations.items(), key=lambda item: (item[1].average, item[0]))
    wins, reason = _gate(store, plan, best, config.margin)
    if wins:
        _crown(
            store,
            plan,
            Champion(model=best.model, model_digest=best.model_digest, evaluation=best_key, cycle=plan.cycle),
        )
    record = CycleRecord(
        cycle=plan.cycle,
        parent=plan.champion["cycle"] if plan.champion else 0,
        fingerprint=plan.fingerprint,
        dataset=config.dataset,
        runs=tuple(_run(name, evaluation) for name, evaluation in evaluations.items()),
        candidate=best.model,
        verdict="promoted" if wins else "refused",
        reason=reason,
        report=f"cycles/{plan.cycle:06d}.html",
    )
    write_report(store, plan, record)
    store.write(key, record.to_json())
    return {**_summary(store, record), "already_done": False}


def _gate(store: Store, plan: CyclePlan, candidate: Evaluation, margin: float) -> tuple[bool, str]:
    """Whether the candidate beats the champion that was in force when the cycle was opened, and why."""
    if plan.champion is None:
        return True, f"there was no champion before; {candidate.model} has the best average, {candidate.average:.1%}"
    key = f"evaluations/{plan.champion['model_digest']}/{candidate.suite_digest}.json"
    if not store.exists(key):
        raise NotFoundError(
            f"{key}: the champion was not judged on this suite; run "
            f"`hqclip evaluate --store {store.uri} --model {plan.champion['model']} --suite ...` and try again"
        )
    champion = Evaluation.from_json(store.read(key), key)
    gain, low, high = PairedComparison.read(store, {"champion": champion, "candidate": candidate}).gain()
    measured = (
        f"average {candidate.average:.1%} against {champion.average:.1%} of the champion, "
        f"difference {gain:+.1%} (95 % interval {low:+.1%} to {high:+.1%})"
    )
    if gain < margin:
        return False, f"{measured}: less than the margin of {margin:.1%}"
    return True, f"{measured}: at least the margin of {margin:.1%}"


def _crown(store: Store, plan: CyclePlan, champion: Champion) -> None:
    """Move the pointer from the champion that the plan saw. Raises `ConflictError` if another one took its place."""
    seen = store.stat("champion.json")
    if seen is not None:
        current = Champion.from_json(store.read("champion.json"), "champion.json")
        if current == champion:
            return
        before = plan.champion["model_digest"] if plan.champion else None
        if current.model_digest != before:
            raise ConflictError(
                f"champion.json became {current.model} (cycle {current.cycle}) while cycle {plan.cycle} ran; "
                "nothing was changed: run the next cycle against it"
            )
    store.swap("champion.json", champion.to_json(), expected=seen)


def _run(name: str, evaluation: Evaluation) -> dict[str, Any]:
    run = evaluation.model.rpartition("/")[0]
    return {
        "name": run.rpartition("/")[2].partition("-")[2],
        "run": run,
        "model_digest": evaluation.model_digest,
        "evaluation": name,
        "average": evaluation.average,
    }


def _summary(store: Store, record: CycleRecord) -> dict[str, Any]:
    return {
        "cycle": record.cycle,
        "verdict": record.verdict,
        "reason": record.reason,
        "candidate": record.candidate,
        "report": record.report,
        "table": text_table(comparison(store, record)),
        "averages": {run["name"]: run["average"] for run in record.runs},
    }
