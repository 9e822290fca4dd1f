"""What became of a run or a cycle in, the message to people about it out: what happened, why, and what to do next."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hqclip.cycle.crown import PROMOTED, WAITS
from hqclip.cycle.keys import notes_prefix
from hqclip.notify import outbox
from hqclip.notify.config import EVENTS
from hqclip.notify.message import Message
from hqclip.store import Store
from hqclip.store.documents import read_json_or_warn
from hqclip.task_records import TaskRecord

VERDICTS = {PROMOTED: ("promoted", "{model} is in force"), WAITS: ("waits", "{model} waits for approval")}
KEPT = ("kept", "the champion was kept")
UI = "HQCLIP_KFP_UI"  # where people look at Kubeflow; links to runs lead there
GCS_PAGES = "https://storage.cloud.google.com/"


def tell_verdict(store: Store, summary: Mapping[str, Any], run: str) -> bool:
    """Tell of the gate, by what `promote` gives. A cycle is told of once, whoever says so first."""
    cycle = int(summary["cycle"])
    event, happened = VERDICTS.get(summary["verdict"], KEPT)
    title = f"cycle {cycle}: {happened.format(model=summary.get('candidate') or 'a new model')}"
    failed = "".join(f"; {one['trial']} failed: {one['error']}" for one in summary.get("failed", ()))
    report = str(summary.get("report") or f"cycles/{cycle:06d}.html")
    links = {"page": page_of(store, report), **_run_link(run)}
    links["next"] = f"hqclip lineage --store {store.uri} --cycle {cycle}"
    message = Message(
        id=f"cycle-{cycle:06d}-gate",
        event=event,
        title=f"hqclip: {title}",
        why=f"{summary['reason']}{failed}",
        table=str(summary.get("table", "")),
        links=links,
        run=run,
        cycle=cycle,
        store=store.uri,
    )
    return outbox.tell(store, message)


def tell_end(store: Store, run: str, ended: Mapping[str, Any], decided: Mapping[str, Mapping[str, Any]]) -> None:
    """Tell how a run ended: `ended` as `how_ended` gives it, and what its tasks decided, by stage.

    A run that judged a model is told of by the verdict, which its `promote` may have done before.
    """
    plan, event = decided.get("plan", {}), str(ended["outcome"])
    cycle = int(plan.get("cycle") or 0)
    if event == "succeeded" and decided.get("promote", {}).get("verdict"):
        if tell_verdict(store, {"cycle": cycle, **decided["promote"], **_noted(store, cycle)}, run):
            outbox.close(store, id_of(run))
        return
    where = f" at {ended['task']}" if ended.get("task") else ""
    title = f"{EVENTS[event]}{where}" + (f" (cycle {cycle})" if cycle else "")
    page = str(decided.get("curate", {}).get("report", ""))
    links = {**({"page": page_of(store, page)} if page else {}), **_run_link(run), **_next(event, run, plan)}
    outbox.tell(
        store,
        Message(
            id=id_of(run),
            event=event,
            title=f"hqclip: {title}",
            why=str(ended["reason"]),
            links=links,
            run=run,
            cycle=cycle,
            store=store.uri,
        ),
    )


def tell_silence(store: Store, last: str, missed: int, why: str) -> None:
    """Tell that no run has begun when the `missed`th one after run `last` was expected."""
    links = {"next": "python -m pipelines schedule list; python -m pipelines doctor --cluster"}
    outbox.tell(
        store,
        Message(
            id=f"silence-{last}-{missed}",
            event="never_started",
            title=f"hqclip: {EVENTS['never_started']}",
            why=why,
            links=links,
            store=store.uri,
        ),
    )


def id_of(run: str) -> str:
    """The id of the message about how a run ended."""
    return f"run-{run}"


def decided_by(records: list[TaskRecord]) -> dict[str, dict[str, Any]]:
    """What the tasks of a run decided that ended well, by stage."""
    return {record.stage: record.decided for record in records if record.exit_code == 0}


def page_of(store: Store, key: str) -> str:
    """Where a person reads an object of the store: an address for Google's, else its place."""
    where = f"{store.uri.rstrip('/')}/{key}"
    return GCS_PAGES + where.removeprefix("gs://") if where.startswith("gs://") else where


def _noted(store: Store, cycle: int) -> dict[str, Any]:
    """What `promote` left beside the cycle, with the gate's table; nothing if it is gone or damaged."""
    key = f"{notes_prefix(cycle)}promote.json"
    return (read_json_or_warn(store, key, "notify") or {}) if store.exists(key) else {}


def _run_link(run: str) -> dict[str, str]:
    ui = os.environ.get(UI, "").partition("/#")[0].rstrip("/")
    return {"run": f"{ui}/#/runs/details/{run}"} if ui and run and not _is_local(run) else {}


def _next(event: str, run: str, plan: Mapping[str, Any]) -> dict[str, str]:
    if event == "locked" and not _is_local(holder := str(plan["locked_by"])):
        return {"next": f"python -m pipelines status {holder}"}
    if event in ("failed", "cancelled") and not _is_local(run):
        return {"next": f"python -m pipelines explain {run}"}
    return {}


def _is_local(run: str) -> bool:
    return run.startswith("local")
