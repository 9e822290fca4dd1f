"""A store in, its history out: small records of every cycle and run, read side by side, what is known left aside."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hqclip.cycle.crown import read_champion
from hqclip.cycle.history.cycles import read_cycle, since
from hqclip.cycle.history.documents import Documents
from hqclip.cycle.history.memory import Group, Memory
from hqclip.cycle.history.runs import read_run
from hqclip.cycle.spent import LOOK_BACK
from hqclip.errors import DataError
from hqclip.records import Sweep
from hqclip.report import StageCost
from hqclip.report.history import History, PastCycle, PastRun, PastSweep
from hqclip.store import Listed, Store
from hqclip.store.documents import read_json_or_warn

AT_ONCE = 32
MOST_SWEEPS = 20
CYCLE = re.compile(r"cycles/(\d{6,})\.(?:plan\.json|json|approval\.json|stages/.+)")
RUN = re.compile(r"pipelines/([^/]+)/.+\.json")
SWEEP = re.compile(r"sweeps/([0-9a-f]+)\.json")
IS_NIGHT = ("plan", "finish")  # tasks that a run of cycles has; sweeps and evaluations have neither


def read_history(store: Store, last: int) -> tuple[History, dict[str, Any]]:
    """The newest `last` cycles and twice as many runs, and what to keep of that for the next time.

    Raises what the store raises if it is out of reach.
    """
    memory = Memory(store)
    cycles = _grouped(store, "cycles/", CYCLE)
    runs = {run: group for run, group in _grouped(store, "pipelines/", RUN).items() if _is_night(run, group)}
    newest = sorted(cycles, key=int)[-last - LOOK_BACK :]  # what the first shown one cost is told by those before it
    latest = sorted(runs, key=lambda run: max(one.changed for one in runs[run]))[-2 * last :]

    def cycle_of(number: str) -> tuple[str, PastCycle]:
        return memory.cycle(int(number), cycles[number], lambda keys: read_cycle(store, int(number), keys))

    def run_of(run: str) -> tuple[str, PastRun]:
        return memory.run(run, runs[run], lambda keys: read_run(store, run, keys))

    with ThreadPoolExecutor(AT_ONCE, "hqclip-history") as readers:
        told = list(readers.map(cycle_of, newest))
        ran = list(readers.map(run_of, latest))
        sweeps = _sweeps(store, readers.map)
    shown = _with_cost([past for _, past in told])[-last:]
    documents = Documents(store)
    documents.problems += [problem for past in shown for problem in past.problems]
    documents.problems += [problem for _, past in ran for problem in past.problems]
    champion = _champion(documents)
    history = History(
        store=store.uri,
        cycles=shown,
        runs=tuple(sorted((past for _, past in ran), key=lambda past: past.began)),
        sweeps=sweeps,
        left_out={"cycles": len(cycles) - len(shown), "runs": len(runs) - len(latest)},
        champion=champion,
        problems=tuple(documents.problems),
    )
    return history, memory.to_keep(told, ran, {*map(int, cycles), *runs})


def _grouped(store: Store, prefix: str, pattern: re.Pattern[str]) -> dict[str, Group]:
    """What is there, by what the pattern finds in its key."""
    found: dict[str, list[Listed]] = {}
    for one in sorted(store.scan(prefix), key=lambda one: one.key):
        if match := pattern.fullmatch(one.key):
            found.setdefault(match[1], []).append(one)
    return {**found}


def _is_night(run: str, group: Group) -> bool:
    return any(one.key.startswith(f"pipelines/{run}/{task}/") for one in group for task in IS_NIGHT)


def _with_cost(cycles: Sequence[PastCycle]) -> tuple[PastCycle, ...]:
    """Of annotation, what the work log of the annotator gained in the cycle, and not what it had come to in all."""
    shared = []
    for number, past in enumerate(cycles):
        before = since(past, cycles[:number])
        shared.append(dataclasses.replace(past, stages=tuple(_less(row, before) for row in past.stages)))
    return tuple(shared)


def _less(row: StageCost, before: float) -> StageCost:
    if row.task != "annotate" or not row.gpu_seconds or not before:
        return row
    left = max(row.gpu_seconds - before, 0.0)
    usd = (row.usd[0] * left / row.gpu_seconds, row.usd[1] * left / row.gpu_seconds) if row.usd and left else None
    return dataclasses.replace(row, gpu_seconds=left, usd=usd)


def _sweeps(store: Store, each: Callable[..., Iterable[Any]]) -> tuple[PastSweep, ...]:
    """The newest that were compared; a damaged one is left out with a warning."""
    found = sorted((one for one in store.scan("sweeps/") if SWEEP.fullmatch(one.key)), key=lambda one: one.changed)
    keys = [one.key for one in found[-MOST_SWEEPS:]]
    said = each(lambda key: read_json_or_warn(store, key, "history", Sweep) or {}, keys)
    return tuple(
        PastSweep(digest=key.split("/")[1].removesuffix(".json"), reason=str(one["reason"]))
        for key, one in zip(keys, said, strict=True)
        if "reason" in one
    )


def _champion(documents: Documents) -> int:
    try:
        champion = read_champion(documents.store)
    except DataError as error:
        documents.problems.append(str(error))
        return 0
    return int(champion.cycle) if champion else 0
