"""A winner that waits and a person's decision in; the decision written down, and the winner in force or refused, out.

The decision comes first and is never changed; then the champion, then the page, then the note that all is done. What is
cut short in between is finished by the same command again, or by the next `plan`.
"""

from __future__ import annotations

import getpass
import json
import time
from contextlib import suppress
from typing import Any

from hqclip import exported
from hqclip.cycle.config import ApproveConfig
from hqclip.cycle.crown import (
    APPROVED,
    PROMOTED,
    REJECTED,
    WAITS,
    champion_of,
    check_place,
    put_in_force,
    read_approval,
    read_record,
    words_of,
)
from hqclip.cycle.history.write import write_at_the_end
from hqclip.cycle.keys import approval_key, notes_prefix, plan_key, record_key
from hqclip.cycle.report import write_report
from hqclip.errors import ConfigError, ConflictError, NotFoundError
from hqclip.records import Approval, CyclePlan, CycleRecord
from hqclip.store import Store, open_store

WAITED = "waited for approval"


def run(config: ApproveConfig) -> dict[str, Any]:
    """Decide on the winner of a cycle. The same decision again changes nothing.

    Raises `NotFoundError` for a cycle that is not closed, `ConflictError` where nothing waits, another decision was
    made, or another model was put in force meanwhile, and `DataError` for a model that is not as it was judged.
    """
    store = open_store(config.store)
    there = read_approval(store, config.cycle)
    if there is None:
        _check(store, config)
        there = _decide(store, config)
    if there.decision != _decision(config):
        raise ConflictError(f"cycle {config.cycle} was {words_of(there)}; a decision stays: the next cycle has its own")
    already_done = store.exists(_note(config.cycle))
    record = read_record(store, config.cycle) if already_done else complete(store, config.cycle)
    write_at_the_end(store)
    decided = {name: getattr(there, name) for name in ("decision", "by", "at")}
    return {**_result(record), **decided, "already_done": already_done}


def complete(store: Store, cycle: int) -> CycleRecord:
    """Do what follows of a decision that is written down. Raises `ConflictError` as `run` does."""
    plan = CyclePlan.from_json(store.read(plan_key(cycle)), plan_key(cycle))
    record = read_record(store, cycle)
    if record.verdict == PROMOTED:
        put_in_force(store, plan, record)
    write_report(store, plan, record)
    store.write(_note(cycle), json.dumps(_result(record), indent=1).encode(), create_only=False)
    return record


def _check(store: Store, config: ApproveConfig) -> None:
    """Whether there is something to decide, and a winner that can still be put in force."""
    key = record_key(config.cycle)
    if not store.exists(key):
        raise NotFoundError(
            f"{store.uri} has no {key}: cycle {config.cycle} is not done, so nothing waits for approval"
        )
    record = CycleRecord.from_json(store.read(key), key)
    if record.verdict != WAITS:
        raise ConflictError(f"nothing of cycle {config.cycle} waits: it was {record.verdict}, {record.reason}")
    if not config.reject:
        plan = CyclePlan.from_json(store.read(plan_key(config.cycle)), plan_key(config.cycle))
        check_place(store, plan, WAITED)
        exported.check_files(store, record.candidate, champion_of(record).model_digest)


def _decide(store: Store, config: ApproveConfig) -> Approval:
    """Write the decision down, unless somebody was quicker; the one that stands."""
    at = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    approval = Approval(
        cycle=config.cycle, decision=_decision(config), by=config.by or _user(), at=at, reason=config.reason.strip()
    )
    with suppress(ConflictError):  # what was decided first is read back, and compared
        store.write(approval_key(config.cycle), approval.to_json())
    return read_approval(store, config.cycle) or approval


def _decision(config: ApproveConfig) -> str:
    return REJECTED if config.reject else APPROVED


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ConfigError("the user of this machine has no name: say who decides with --by") from None


def _note(cycle: int) -> str:
    return f"{notes_prefix(cycle)}approve.json"


def _result(record: CycleRecord) -> dict[str, Any]:
    names = ("cycle", "verdict", "reason", "candidate", "report")
    return {name: getattr(record, name) for name in names}
