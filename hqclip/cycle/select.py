"""Evaluations of the trials of a sweep in, the best of them and a page that compares all out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hqclip import __version__
from hqclip.config import SelectConfig
from hqclip.cycle.paired import PairedComparison
from hqclip.cycle.references import SELECT_AGAIN
from hqclip.cycle.report import loss_charts
from hqclip.cycle.side_by_side import side_by_side
from hqclip.cycle.sweep import runs_of
from hqclip.errors import DataError
from hqclip.exported import trained_digest
from hqclip.records import Evaluation, canonical_json
from hqclip.report import Provenance, Report
from hqclip.report.page import render
from hqclip.report.text import text_table
from hqclip.store import Store, open_store
from hqclip.store.documents import read_json


def run(config: SelectConfig) -> dict[str, Any]:
    """Write `sweeps/{digest}.json` and the page beside it. Nothing is put in force: that is for a cycle to decide."""
    store = open_store(config.store)
    plan = _read_plan(store, config.plan)
    digest = config.plan.split("/")[1].split(".")[0]
    key = f"sweeps/{digest}.json"
    if store.exists(key):
        return {**read_json(store, key, SELECT_AGAIN), "already_done": True}
    judged = {}  # by digest: the same weights may have been judged before, under another name
    for name in config.evaluations:
        evaluation = Evaluation.from_json(store.read(name), name)
        judged[evaluation.model_digest] = (name, evaluation)
    rows = [_row(store, f"runs/{runs_of(digest)}{trial['name']}", trial, judged) for trial in plan["points"]]
    missing = [row["name"] for row in rows if not row["evaluation"]]
    if missing:
        raise DataError(f"{config.plan}: no evaluation of {', '.join(missing)}; evaluate them on the same suite first")
    best = max(rows, key=lambda row: (row["average"], row["name"]))
    by_name = {row["name"]: judged[row["model_digest"]][1] for row in rows}
    comparison = side_by_side(PairedComparison.read(store, by_name))
    reason = f"{best['name']} has the best average of {len(rows)} trials, {best['average']:.1%}"
    page = Report(
        title=f"sweep {digest}",
        verdict=reason + ".",
        comparison=comparison,
        losses=loss_charts(store, rows),
        run=Provenance(
            settings={**plan["settings"], "trials": {row["name"]: row["settings"] for row in rows}},
            digests={"data set": plan["dataset"].split("/")[1], "suite": plan["suite"]},
            code_version=__version__,
        ),
    )
    report = f"sweeps/{digest}.html"
    store.write(report, render(page).encode(), create_only=False)
    result = {
        "sweep": key,
        "best": best["name"],
        "model": f"{best['run']}/model",
        "average": best["average"],
        "reason": reason,
        "points": rows,
        "table": text_table(comparison),
        "report": report,
    }
    store.write(key, canonical_json(result))
    return {**result, "already_done": False}


def _read_plan(store: Store, key: str) -> dict[str, Any]:
    """What `sweep` wrote. Raises `NotFoundError`, `DataError`."""
    again = "delete it and run `hqclip sweep` again"
    plan = read_json(store, key, again)
    missing = [name for name in ("points", "settings", "dataset", "suite") if name not in plan]
    if missing:
        raise DataError(f"{store.uri}/{key} is no plan of a sweep: it lacks {', '.join(missing)}; {again}")
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
