"""`python -m pipelines compare A B ...`: models side by side, metric by metric, with differences to the first.

Each may be a cycle (`3`: its candidate; `3/raw`: one of its runs), a run folder (`runs/000003-raw`), a sweep
(`sweeps/DIGEST`: all its trials), an evaluation (`evaluations/.../....json`), `champion`, or the id of a run on the
cluster. Differences have 95 % bootstrap intervals where the store has what each model got right, item by item.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from hqclip.cycle import compare
from hqclip.cycle.config import CompareModelsConfig
from hqclip.cycle.keys import newest_cycle
from hqclip.errors import ConfigError, NotFoundError
from hqclip.store import Store
from hqclip.task_records import read_records
from pipelines.client import connect, output
from pipelines.client.find import store_of
from pipelines.client.output import say, show
from pipelines.client.project_inputs import shared

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="cycle, CYCLE/NAME, runs/..., sweeps/..., champion, or a run id"
    )
    parser.add_argument("--store", default="", help="root of the store (the project's); a run id knows its own")
    parser.add_argument("--suite", default="", help="digest of the suite to compare on, if they share several")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page as well")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Print the comparison, and write its page if one is wanted."""
    store, references = _references(given)
    html = str(given.html or "")
    found = compare.run(CompareModelsConfig(store=store, runs=tuple(references), suite=given.suite, html=html))
    if given.output == "table":
        print(found["table"])
    else:
        show(found["metrics"], given.output)
    if not found["has_intervals"] and (html or given.output == "table"):
        say("there are no intervals: what these models got right, item by item, is not in the store")
    if html:
        say(f"page: {html}")
    return 0


def _references(given: argparse.Namespace) -> tuple[str, list[str]]:
    """The store, and what is to be compared in it; ids of runs become what they made in their store."""
    if not any(_UUID(reference) for reference in given.runs):
        store = given.store or shared("store")
        if not store:
            raise ConfigError("--store is missing: give the root of the store, or put it into hqclip.yaml")
        return store, given.runs
    client = connect.connect(given).client
    stores = {given.store} - {""}
    references = []
    for reference in given.runs:
        if not _UUID(reference):
            references.append(reference)
            continue
        store = store_of(client.get_run(reference))
        if store is None:
            raise ConfigError(f"run {reference} has no input `store`: it is none of ours")
        stores.add(store.uri)
        references.append(_made_by(reference, store))
    if len(stores) != 1:
        raise ConfigError(f"these runs are of different stores ({', '.join(sorted(stores))}); compare within one")
    return stores.pop(), references


def _made_by(run_id: str, store: Store) -> str:
    """What a run on the cluster has made, by what its tasks wrote down. Raises `NotFoundError` if that is no model."""
    decided = {record.stage: record.decided for record in read_records(store, run_id)}
    if plan := decided.get("sweep", {}).get("plan"):
        return str(plan).removesuffix(".plan.json")
    planned = decided.get("plan", {})
    if planned.get("trials") and not planned.get("locked_by"):
        return str(planned["cycle"])
    judged = decided.get("evaluate", {}).get("evaluation") or decided.get("plan_evaluation", {}).get("model")
    if judged and not planned:
        return str(judged)
    why = f": it was kept out by {planned['locked_by']}" if planned.get("locked_by") else ""
    raise NotFoundError(
        f"run {run_id} has judged no model of {store.uri}{why}; see `python -m pipelines status {run_id}`, or name "
        f"the cycle instead (1 to {newest_cycle(store)})"
    )
