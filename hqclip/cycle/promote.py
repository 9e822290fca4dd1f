"""Evaluations of the candidates in, a verdict out: the report, the cycle record and, last, the champion pointer."""

from __future__ import annotations

from typing import Any

from hqclip import exported
from hqclip.config import PromoteConfig
from hqclip.cycle.approve import complete
from hqclip.cycle.attempt import run_id
from hqclip.cycle.crown import KEY, PROMOTED, REFUSED, WAITS, check_place, put_in_force, read_record, reason_of
from hqclip.cycle.gate import judge
from hqclip.cycle.history.write import write_at_the_end
from hqclip.cycle.keys import approval_key, notes_prefix, plan_key, record_key
from hqclip.cycle.notes import read_notes
from hqclip.cycle.notices import tell_verdict
from hqclip.cycle.report import bars_of, comparison, write_report
from hqclip.cycle.trials import noted_evaluations, read_evaluation, read_failed, refuse_if_none
from hqclip.errors import ConflictError, NotFoundError
from hqclip.provenance import made_by
from hqclip.records import CyclePlan, CycleRecord, Evaluation
from hqclip.report.text import gate_table, text_table
from hqclip.store import Store, open_store
from hqclip.store.documents import write_manifest


def run(config: PromoteConfig) -> dict[str, Any]:
    """Choose the best candidate, close the cycle, and put it in force if it wins. A closed cycle stays as it is.

    With `approval` a winner waits for `hqclip approve`, and nothing in force changes.

    Trials that failed are named in record and page. Raises `TrialsFailedError` if all failed, `ConflictError` if the
    champion changed meanwhile, and `DataError` for a model that is not as it was trained.
    """
    store = open_store(config.store)
    plan = CyclePlan.from_json(store.read(config.plan), config.plan)
    key = record_key(plan.cycle)
    is_closed = store.exists(key)
    if is_closed:
        record = read_record(store, plan.cycle)
    else:
        record = _judge(store, plan, config)
        _write_page(store, plan, record)
        write_manifest(store, key, record)
    if record.verdict == PROMOTED:
        put_in_force(store, plan, record)
    summary = _summary(store, record)
    tell_verdict(store, summary, run_id(""))
    if not is_closed:
        write_at_the_end(store)
    return {**summary, "already_done": is_closed}


def finish(store: Store, cycle: int) -> None:
    """Do what a promotion that was cut short left undone, by what the tasks of its cycle said.

    Raises `NotFoundError` if they did not say enough, and what `run` raises.
    """
    key = plan_key(cycle)
    if not store.exists(key):
        raise NotFoundError(f"{KEY} names a model of cycle {cycle}, but {store.uri} has no {key}: bring it back")
    plan = CyclePlan.from_json(store.read(key), key)
    if store.exists(approval_key(cycle)):
        complete(store, cycle)
        return
    if store.exists(record_key(cycle)):
        put_in_force(store, plan, CycleRecord.from_json(store.read(record_key(cycle)), record_key(cycle)))
        return
    notes = read_notes(store, cycle)
    dataset = notes.get("curate", {}).get("dataset", "")
    evaluations = noted_evaluations(store, notes_prefix(cycle), plan.trials)
    failed = read_failed(store, notes_prefix(cycle), plan.trials)
    if not (dataset and evaluations and len(evaluations) + len(failed) == len(plan.trials)):
        raise NotFoundError(
            f"the promotion of cycle {cycle} was cut short: {KEY} names its model, but {record_key(cycle)} is missing; "
            f"finish it with `hqclip promote --store {store.uri} --plan {key} --dataset ... --evaluations ...`"
        )
    given = {**plan.settings.get("promote", {}), "dataset": dataset, "evaluations": evaluations}
    run(PromoteConfig.from_mapping({**given, "store": store.uri, "plan": key}, "promote."))


def _judge(store: Store, plan: CyclePlan, config: PromoteConfig) -> CycleRecord:
    """What the record of the cycle says. The models are those that were trained, the best to the last byte."""
    notes = notes_prefix(plan.cycle)
    names = config.evaluations or noted_evaluations(store, notes, plan.trials)
    evaluations = {name: read_evaluation(store, name) for name in names}
    runs = tuple(_run(name, evaluation) for name, evaluation in evaluations.items())
    judged = [run["name"] for run in runs]
    failed = [one for one in read_failed(store, notes, plan.trials) if one.trial not in judged]
    refuse_if_none(failed, names, f"cycle {plan.cycle}")
    _, best = max(evaluations.items(), key=lambda item: (item[1].average, item[0]))
    for evaluation in evaluations.values():
        exported.check_digest(store, evaluation.model, evaluation.model_digest)
    exported.check_files(store, best.model, best.model_digest)
    passed, reason, bars = judge(store, plan, best, config)
    verdict = (WAITS if config.approval else PROMOTED) if passed else REFUSED
    return CycleRecord(
        cycle=plan.cycle,
        parent=plan.champion["cycle"] if plan.champion else 0,
        fingerprint=plan.fingerprint,
        dataset=config.dataset,
        runs=runs,
        failed=tuple(vars(one) for one in failed),
        candidate=best.model,
        verdict=verdict,
        reason=reason,
        report=f"cycles/{plan.cycle:06d}.html",
        provenance=made_by("promote", config.to_mapping(), [config.plan, config.dataset, *names]),
        gate=tuple(vars(bar) for bar in bars),
    )


def _write_page(store: Store, plan: CyclePlan, record: CycleRecord) -> None:
    """Write the page. Raises `ConflictError` if the winner could not be put in force, before it or meanwhile.

    No page is left then, of an earlier try neither: it would say what was not done.
    """
    if record.verdict == REFUSED:
        write_report(store, plan, record)
        return
    try:
        check_place(store, plan)
        write_report(store, plan, record)
        check_place(store, plan)
    except ConflictError:
        store.delete(record.report)
        raise


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
    again = f"Cycle {record.cycle} is closed: a further one (plan_cycle={record.cycle + 1}) tries them again"
    return {
        **({"failed": list(record.failed), "again": again} if record.failed else {}),
        "cycle": record.cycle,
        "verdict": record.verdict,
        "reason": reason_of(store, record),
        "candidate": record.candidate,
        "average": record.chosen["average"],
        "report": record.report,
        "gate": gate_table(bars_of(record)),
        "table": text_table(comparison(store, record)),
        "averages": {run["name"]: run["average"] for run in record.runs},
    }
