"""Evaluations of the trials of a sweep in, the best of them and a page that compares all out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hqclip import __version__
from hqclip.config import SelectConfig
from hqclip.cycle.budget.limit import what_it_took
from hqclip.cycle.keys import notes_of, runs_of
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.references import SELECT_AGAIN
from hqclip.cycle.report import loss_charts
from hqclip.cycle.side_by_side import side_by_side
from hqclip.cycle.trials import noted_evaluations, read_evaluation, read_failed, refuse_if_none
from hqclip.errors import DataError
from hqclip.exported import trained_digest
from hqclip.records import Evaluation, FailedTrial, Sweep, SweepPlan, canonical_json
from hqclip.report import Provenance, Report
from hqclip.report.links import history_of, links, sheet_of
from hqclip.report.page import render
from hqclip.report.text import text_table
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json


def run(config: SelectConfig) -> dict[str, Any]:
    """Write `sweeps/{digest}.json` and the page beside it. Nothing is put in force: that is for a cycle to decide.

    Trials that failed are named in both, and tried again by the same sweep; the others are compared. Raises
    `TrialsFailedError` if all failed, `DataError` if one was never judged.
    """
    store = open_store(config.store)
    plan = _read_plan(store, config.plan)
    digest = config.plan.split("/")[1].split(".")[0]
    key = f"sweeps/{digest}.json"
    if store.exists(key) and not (found := read_json(store, key, SELECT_AGAIN, Sweep)).get("failed"):
        return {**found, "already_done": True}
    result = _compare(store, plan, digest, config.evaluations)
    store.write(key, canonical_json(result), create_only=False)
    return {**result, "already_done": False}


def _compare(store: Store, plan: Mapping[str, Any], digest: str, evaluations: Sequence[str]) -> dict[str, Any]:
    """What there is to say about the trials, with the page written."""
    rows, judged, failed = _rows(store, plan, digest, evaluations)
    best = max(rows, key=lambda row: (row["average"], row["name"]))
    comparison = side_by_side(
        PairedComparison.read(store, {row["name"]: judged[row["model_digest"]][1] for row in rows})
    )
    reason = f"{best['name']} has the best average of {len(rows)} trials, {best['average']:.1%}"
    report = f"sweeps/{digest}.html"
    curves = [(f"curves: {row['name']}", f"{row['run']}/tensorboard/") for row in rows]
    sheet = ("data set", sheet_of(plan["dataset"].split("/")[1]))
    page = Report(
        title=f"sweep {digest}",
        links=links(store.uri, report, [*history_of(store), sheet, *curves]),
        verdict=reason + ".",
        comparison=comparison,
        failed=tuple(failed),
        losses=loss_charts(store, rows),
        run=Provenance(
            settings={**plan["settings"], "trials": {trial["name"]: trial["settings"] for trial in plan["points"]}},
            digests={"data set": plan["dataset"].split("/")[1], "suite": plan["suite"]},
            code_version=__version__,
            spent=what_it_took(store, notes_of(digest)),
        ),
    )
    store.write(report, render(page).encode(), create_only=False)
    result = {
        "sweep": f"sweeps/{digest}.json",
        "best": best["name"],
        "model": f"{best['run']}/model",
        "average": best["average"],
        "reason": reason,
        "points": rows,
        "table": text_table(comparison),
        "report": report,
    }
    again = "Mend that, and start the same sweep again: it tries just them"
    return {**result, "failed": [vars(one) for one in failed], "again": again} if failed else result


def _rows(
    store: Store, plan: Mapping[str, Any], digest: str, evaluations: Sequence[str]
) -> tuple[list[dict[str, Any]], dict[str, tuple[str, Evaluation]], list[FailedTrial]]:
    """The trials that were judged, the evaluations by digest of the model, and the trials that failed."""
    notes = notes_of(digest)
    evaluations = evaluations or noted_evaluations(store, notes, plan["points"])
    judged = {}  # by digest: the same weights may have been judged before, under another name
    for name in evaluations:
        evaluation = read_evaluation(store, name)
        judged[evaluation.model_digest] = (name, evaluation)
    rows = [_row(store, f"runs/{runs_of(digest)}{trial['name']}", trial, judged) for trial in plan["points"]]
    unjudged = [row["name"] for row in rows if not row["evaluation"]]
    failed = [one for one in read_failed(store, notes, plan["points"]) if one.trial in unjudged]
    missing = [name for name in unjudged if name not in [one.trial for one in failed]]
    if missing:
        raise DataError(f"sweep {digest}: no evaluation of {', '.join(missing)}; evaluate them on the same suite first")
    refuse_if_none(failed, evaluations, f"sweep {digest}")
    return [row for row in rows if row["evaluation"]], judged, failed


def _read_plan(store: Store, key: str) -> dict[str, Any]:
    """What `sweep` wrote. Raises `NotFoundError`, `DataError`."""
    again = "delete it and run `hqclip sweep` again"
    plan = read_json(store, key, again, SweepPlan)
    if not plan["dataset"].startswith("datasets/"):
        raise DataError(f"{store.uri}/{key} is damaged: dataset is no key of a data set; {again}")
    return plan


def _row(
    store: Store, run: str, trial: Mapping[str, Any], judged: Mapping[str, tuple[str, Evaluation]]
) -> dict[str, Any]:
    """A trial with the run that was trained for it and how that was judged; an empty evaluation if it was not."""
    digest = trained_digest(store, run) if store.exists(f"{run}/result.json") else ""
    evaluation, scores = judged.get(digest, ("", None))
    return {
        "name": trial["name"],
        "settings": trial["settings"],
        "run": run,
        "model_digest": digest,
        "evaluation": evaluation,
        "average": scores.average if scores else 0.0,
    }
