"""`hqclip history`: the page about all cycles of a store, written beside them; also at the end of every cycle."""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.cycle.config import LAST, HistoryConfig
from hqclip.cycle.history import memory
from hqclip.cycle.history.read import AT_ONCE, read_history
from hqclip.cycle.history.table import text_table
from hqclip.cycle.keys import record_key
from hqclip.cycle.notices import run_link
from hqclip.report import Link
from hqclip.report.history import History, PastCycle
from hqclip.report.history_page import render_history
from hqclip.report.links import HISTORY, OUTSIDE, links, sheet_of
from hqclip.store import Store, check_not_empty, open_store

WITH_CURVES = 30  # newest cycles, the folders of whose curves are looked for


def run(config: HistoryConfig) -> dict[str, Any] | str:
    """Write the page; what it shows as a table or as JSON.

    Raises `NotFoundError` if there is no store, and what the store raises if it is out of reach.
    """
    store = open_store(config.store)
    check_not_empty(store)
    history, kept = read_history(store, config.last)
    if config.html:
        Path(config.html).parent.mkdir(parents=True, exist_ok=True)
        Path(config.html).write_text(_page(store, history, OUTSIDE), encoding="utf-8")
    else:
        _write(store, history, kept)
    page = config.html or f"{store.uri.rstrip('/')}/{HISTORY}"
    if config.format == "json":
        return {"page": page, **dataclasses.asdict(dataclasses.replace(history, links={}))}
    return f"{text_table(history)}\n\npage: {page}"


def write_at_the_end(store: Store) -> None:
    """Write the page when a cycle or a night is over: for people, so whatever keeps it from that is only a warning."""
    try:
        _write(store, *read_history(store, LAST))
    except Exception as error:  # the verdict stands, whatever is wrong with a page about it
        log.debug("history", traceback.format_exc())
        log.warning("history", f"{HISTORY} was not written: {error}; `hqclip history --store {store.uri}` writes it")


def _write(store: Store, history: History, kept: Mapping[str, Any]) -> None:
    store.write(HISTORY, _page(store, history, HISTORY).encode(), create_only=False)
    store.write(memory.KEY, json.dumps(kept).encode(), create_only=False)


def _page(store: Store, history: History, here: str) -> str:
    sheets = {key for key in store.list("datasets/") if key.endswith("/sheet.html")}
    trained = {run for past in history.cycles[-WITH_CURVES:] for run in past.trained}
    with ThreadPoolExecutor(AT_ONCE, "hqclip-history") as readers:
        found = dict(zip(trained, readers.map(lambda run: _has_curves(store, run), trained), strict=True))
    led: dict[int | str, tuple[Link, ...]] = {}
    for past in history.cycles:
        curves = [run for run in past.trained if found.get(run)]
        runs = [Link("run in Kubeflow", at) for run in history.runs_of(past.cycle) for at in run_link(run.run).values()]
        led[past.cycle] = (*links(store.uri, here, _of_cycle(past, sheets, curves)), *runs)
    for one in history.runs:
        led[one.run] = tuple(Link("run in Kubeflow", at) for at in run_link(one.run).values())
    for sweep in history.sweeps:
        led[sweep.digest] = links(store.uri, here, [("page of the sweep", f"sweeps/{sweep.digest}.html")])
    logdir = f"tensorboard --logdir {store.uri.rstrip('/')}/runs"
    return render_history(dataclasses.replace(history, links=led, curves=logdir if history.cycles else ""))


def _of_cycle(past: PastCycle, sheets: set[str], curves: Sequence[str]) -> Iterator[tuple[str, str]]:
    if past.average is not None:  # it is closed, so its page is there
        yield "page of the cycle", record_key(past.cycle).replace(".json", ".html")
    if (sheet := sheet_of(past.dataset)) in sheets:
        yield "data set", sheet
    for run in curves:
        yield f"curves: {run.rpartition('/')[2].partition('-')[2] or run}", f"{run}/tensorboard/"


def _has_curves(store: Store, run: str) -> bool:
    return next(iter(store.list(f"{run}/tensorboard/")), None) is not None
