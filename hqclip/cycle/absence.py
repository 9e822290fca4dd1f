"""`hqclip notify watch`, beside the janitor: what nobody else could tell. Runs without an end, nights without a run.

It sees what tasks told the store, and whether Kubernetes still knows a run, if that is in the namespace of this pod. It
does not see Kubeflow's schedules, runs that have no exit task (sweeps, evaluations), nor why a run never began.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from typing import Any

from hqclip import log
from hqclip.cycle import lock
from hqclip.cycle.finish import FAILED, STAGE, how_ended
from hqclip.cycle.notices import decided_by, id_of, tell_end, tell_silence
from hqclip.cycle.run_state import OVER, RUNNING, state_of
from hqclip.errors import ConfigError
from hqclip.notify import outbox
from hqclip.notify.config import WatchConfig, read_environment
from hqclip.store import Store, open_store
from hqclip.store.documents import finite, number_in, read_json_or_warn
from hqclip.task_records import TaskRecord, read_records

RECORDS = "pipelines/"
BEGUN = "notices.begun.json"  # when each run began, so that its records are read for it once
CANCELLED = "cancelled"
HOUR_S = 3600.0
EXIT_TASK_S = 600.0  # that the exit task of a run that is over may take to say so by itself


def watch(settings: WatchConfig) -> dict[str, Any]:
    """Tell of what has not been told; the runs and nights that were found, and what is still to be sent.

    Raises `ConfigError` if the environment names no receiver.
    """
    if not read_environment().names:
        raise ConfigError(outbox.NOBODY)
    store, now = open_store(settings.store), time.time()
    runs = _runs(store)
    marks = outbox.known(store)
    found = {}
    for run in runs:
        if outbox.mark_of(id_of(run)) in marks:
            continue
        try:
            if event := _look(store, run, now, settings.lost_hours):
                found[run] = event
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # its records; they hide no other run
            log.warning("notify", f"run {run}: its records make no sense ({error!r}), so nobody is told of it")
    silence = _silence(store, runs, now, settings) if settings.expect_every_hours else ""
    return {"store": store.uri, "ended": found, "never_started": silence, "not_sent": outbox.resend(store)}


def _runs(store: Store) -> dict[str, list[str]]:
    """Folders of records of runs that have an exit task, each with its keys."""
    runs: dict[str, list[str]] = {}
    for key in store.list(RECORDS):
        run, _, rest = key.removeprefix(RECORDS).partition("/")
        if rest:
            runs.setdefault(run, []).append(rest)
    return {run: keys for run, keys in runs.items() if any(key.startswith(("plan/", f"{STAGE}/")) for key in keys)}


def _look(store: Store, folder: str, now: float, lost_hours: float) -> str:
    """The event of a run that nobody has told of, empty while it goes on; an old one is closed without a word."""
    records = read_records(store, folder)
    if not records:
        return ""
    run = records[0].run
    idle_s = now - max(record.ended or record.started for record in records)
    said = next((each for each in records if each.stage == STAGE and each.exit_code == 0), None)
    state = OVER if said else state_of(run)
    if state == RUNNING or idle_s < EXIT_TASK_S:
        return ""
    if not state and (_holds_the_store(store, run, now) or idle_s < lost_hours * HOUR_S):
        return ""
    if idle_s > outbox.OLD_S:
        outbox.close(store, id_of(run))
        return ""
    ended = _end(run, records, said, "it is over" if state else f"no sign of life for {idle_s / HOUR_S:.0f} hours")
    tell_end(store, run, ended, decided_by(records))
    return str(ended["outcome"])


def _end(run: str, records: list[TaskRecord], said: TaskRecord | None, why: str) -> Mapping[str, Any]:
    ended = how_ended([record for record in records if record.stage != STAGE], run)
    if said is None and ended["outcome"] == FAILED:
        reason = f"{why}, and no exit task said how it ended: {ended['reason']}"
        return {**ended, "outcome": CANCELLED, "reason": reason}
    return ended


def _holds_the_store(store: Store, run: str, now: float) -> bool:
    """Whether tasks of it renewed the lock lately, by the clock of the store, which may be another than ours."""
    held = lock.holder(store)
    renewed = store.changed_at(lock.KEY) if held == run else None
    return renewed is not None and abs(now - renewed) < lock.STALE_S


def _silence(store: Store, runs: Mapping[str, list[str]], now: float, settings: WatchConfig) -> str:
    """That a run was expected, and none has begun; once for each that is missing."""
    begun = _begun(store, runs)
    if not begun:
        return ""
    last = max(begun, key=lambda folder: begun[folder])
    age_h = (now - begun[last]) / HOUR_S
    missed = int((age_h - settings.slack_hours) / settings.expect_every_hours)
    if missed < 1:
        return ""
    why = (
        f"the last run, {last}, began {age_h:.0f} hours ago, and one is expected every {settings.expect_every_hours:g} "
        "hours: its schedule is off or gone, Kubeflow is down, or its pods cannot start"
    )
    tell_silence(store, last, missed, why)
    return why


def _begun(store: Store, runs: Collection[str]) -> dict[str, float]:
    """When each run began, in seconds since 1970."""
    said = (read_json_or_warn(store, BEGUN, "notify") or {}) if store.exists(BEGUN) else {}
    known = {folder: number_in(said, folder) for folder in said if folder in runs and finite(said[folder]) is not None}
    new = {
        folder: min((r.started for r in read_records(store, folder)), default=0.0) for folder in set(runs) - {*known}
    }
    if new:
        store.write(BEGUN, json.dumps({**known, **new}).encode(), create_only=False)
    return {folder: at for folder, at in {**known, **new}.items() if at}
