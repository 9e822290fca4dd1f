"""Which model is in force: the pointer `champion.json`. It moves last, when all that it stands for is written.

A promotion that was cut short is told from one that is over by the chain of champions: each cycle's plan names the
one it began with.
"""

from __future__ import annotations

import dataclasses

from hqclip import exported
from hqclip.cycle.keys import approval_key, half_approved, newest_closed, notes_prefix, plan_key, record_key
from hqclip.errors import ConflictError, DataError, NotFoundError
from hqclip.records import Approval, Champion, CyclePlan, CycleRecord
from hqclip.store import ObjectInfo, Store
from hqclip.store.documents import read_if_there

KEY = "champion.json"
PROMOTED, REFUSED, WAITS = "promoted", "refused", "waits for approval"  # verdicts of a record
APPROVED, REJECTED = "approved", "rejected"  # decisions of a person on one that waits
TRIES = 5


def put_in_force(store: Store, plan: CyclePlan, record: CycleRecord) -> None:
    """Move the pointer to the candidate of a closed cycle; nothing is left to do if it was in force once.

    Raises `ConflictError` if another model took the place of the champion that the cycle had won against, and
    `DataError` or `NotFoundError` if the candidate is not as it was judged: its record may be of long ago.
    """
    for _ in range(TRIES):
        seen, current = _look(store)
        if current is not None and _descends(store, current, plan.cycle):
            return
        _refuse_other(plan, current)
        _check_model(store, record)
        try:
            store.swap(KEY, champion_of(record).to_json(), expected=seen)
            return
        except ConflictError:
            continue  # somebody was quicker: look again
    raise ConflictError(f"{KEY} keeps changing; run again")


def check_place(store: Store, plan: CyclePlan, meanwhile: str = "ran") -> None:
    """Raises `ConflictError` if the candidate of the cycle could not be put in force now."""
    current = read_champion(store)
    if current is None or current.cycle != plan.cycle:
        _refuse_other(plan, current, meanwhile)


def read_record(store: Store, cycle: int) -> CycleRecord:
    """The record of a cycle; where its winner waited for approval, with what was decided, by whom and when."""
    record = CycleRecord.from_json(store.read(record_key(cycle)), record_key(cycle))
    approval = read_approval(store, cycle) if record.verdict == WAITS else None
    if approval is None:
        return record
    said = f"{record.reason}; {words_of(approval)}"
    verdict = PROMOTED if approval.decision == APPROVED else approval.decision
    return dataclasses.replace(record, verdict=verdict, reason=said)


def read_approval(store: Store, cycle: int) -> Approval | None:
    """What a person decided of the winner of a cycle; None if nobody has."""
    return read_if_there(store, approval_key(cycle), Approval)


def reason_of(store: Store, record: CycleRecord) -> str:
    """Why a record has its verdict, and what to do where its winner waits."""
    if record.verdict != WAITS:
        return record.reason
    return f"{record.reason}; `hqclip approve --store {store.uri} --cycle {record.cycle}` puts it in force"


def words_of(approval: Approval) -> str:
    """`approved by ada at 2026-11-28 14:05:00 UTC: looks good`."""
    return f"{approval.decision} by {approval.by} at {approval.at}" + (approval.reason and f": {approval.reason}")


def unfinished_promotion(store: Store) -> int:
    """The cycle whose promotion was cut short, between its record and the crown or the other way round; 0 for none."""
    champion = read_champion(store)
    if champion is not None and not store.exists(record_key(champion.cycle)):
        return champion.cycle  # version 0.1 crowned first
    return _unfinished_approval(store, champion) or _unfinished_verdict(store, champion)


def _unfinished_approval(store: Store, champion: Champion | None) -> int:
    """The newest cycle that a person decided on, if the champion is still the one with which it began."""
    for cycle in half_approved(store):
        if store.exists(plan_key(cycle)) and store.exists(record_key(cycle)):
            plan = CyclePlan.from_json(store.read(plan_key(cycle)), plan_key(cycle))
            is_over = champion is not None and champion.cycle == cycle
            if is_over or read_record(store, cycle).verdict == REJECTED or _is_before(plan, champion):
                return cycle
    return 0


def _unfinished_verdict(store: Store, champion: Champion | None) -> int:
    cycle = newest_closed(store)
    if not cycle or store.exists(f"{notes_prefix(cycle)}promote.json"):
        return 0  # the task has said that it was done: what is in force since then is somebody's will
    record = CycleRecord.from_json(store.read(record_key(cycle)), record_key(cycle))
    if record.verdict != PROMOTED or not store.exists(plan_key(cycle)):
        return 0
    plan = CyclePlan.from_json(store.read(plan_key(cycle)), plan_key(cycle))
    return cycle if _is_before(plan, champion) else 0


def read_champion(store: Store) -> Champion | None:
    """The model in force; None if there is none yet."""
    return read_if_there(store, KEY, Champion)


def champion_of(record: CycleRecord) -> Champion:
    """The candidate of a cycle, as the pointer names it."""
    run = record.chosen
    return Champion(
        model=record.candidate,
        model_digest=run["model_digest"],
        evaluation=run["evaluation"],
        cycle=record.cycle,
        provenance=record.provenance,
    )


def _check_model(store: Store, record: CycleRecord) -> None:
    """Read the candidate to its end. Where it cannot be brought back its cycle must go, or no other is ever planned."""
    champion = champion_of(record)
    try:
        exported.check_files(store, champion.model, champion.model_digest)
    except (DataError, NotFoundError) as error:
        run = champion.model.rpartition("/")[0]
        raise type(error)(
            f"the winner of cycle {record.cycle} is not put in force: {error}; if nobody has it any more, delete "
            f"{run}/ and cycles/{record.cycle:06d}.*, and the cycle is done again"
        ) from error


def _look(store: Store) -> tuple[ObjectInfo | None, Champion | None]:
    seen = store.stat(KEY)
    return seen, Champion.from_json(store.read(KEY), KEY) if seen else None


def _is_before(plan: CyclePlan, current: Champion | None) -> bool:
    """Whether the champion is still the one with which the cycle began."""
    if current is None or plan.champion is None:
        return current is None and plan.champion is None
    return (current.cycle, current.model_digest) == (plan.champion["cycle"], plan.champion["model_digest"])


def _refuse_other(plan: CyclePlan, current: Champion | None, meanwhile: str = "ran") -> None:
    if current is not None and not _is_before(plan, current):
        raise ConflictError(
            f"{KEY} became {current.model} (cycle {current.cycle}) while cycle {plan.cycle} {meanwhile}; "
            "nothing was put in force: run the next cycle against it"
        )


def _descends(store: Store, champion: Champion, cycle: int) -> bool:
    """Whether the champion is that of this cycle, or won against it, or against one that did."""
    at = champion.cycle
    while at > cycle:
        if not store.exists(plan_key(at)):
            return False
        before = CyclePlan.from_json(store.read(plan_key(at)), plan_key(at)).champion
        at = min(at - 1, before["cycle"] if before else 0)
    return at == cycle
