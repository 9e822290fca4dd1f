"""`python -m pipelines compare A B ...`: models side by side, metric by metric, with differences to the first.

Each may be a cycle (`3`: its candidate; `3/raw`: one of its runs), a run folder (`runs/000003-raw`), a sweep
(`sweeps/DIGEST`: all its trials), an evaluation (`evaluations/.../....json`), `champion`, or the id of a run on the
cluster. Differences have 95 % bootstrap intervals where the store has what each model got right, item by item.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hqclip import __version__
from hqclip.cycle.compare import Compared
from hqclip.cycle.plan import newest_cycle, record_key, suite_digest
from hqclip.cycle.report import NAMES, side_by_side
from hqclip.cycle.sweep import resolve
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.records import Champion, CycleRecord, Evaluation, canonical_json
from hqclip.report import Comparison, Group, Model, Provenance, Report, Row, Score
from hqclip.report.page import render
from hqclip.report.text import text_table
from hqclip.store import Store, open_store
from pipelines.client import connect, output
from pipelines.client.output import say, show
from pipelines.inputs import settings_of

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch
_PLAN = re.compile(r"sweeps/\w+\.plan\.json", re.ASCII).fullmatch
_CYCLE = re.compile(r"(?P<cycle>[1-9]\d*)(/(?P<name>[\w-]+))?", re.ASCII).fullmatch


@dataclass(frozen=True)
class Judged:
    """One thing to compare: what it is called, and its evaluations by suite."""

    name: str
    evaluations: Mapping[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="cycle, CYCLE/NAME, runs/..., sweeps/..., champion, or a run id"
    )
    parser.add_argument("--store", default="", help="root of the store; a run id knows its own")
    parser.add_argument("--suite", default="", help="digest of the suite to compare on, if they share several")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the page as well")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Print the comparison, and write its page if one is wanted."""
    store_uri, references = _references(given)
    store = open_store(store_uri)
    judged = [one for reference in references for one in find(store, reference)]
    names = [one.name for one in judged]
    suite = shared(judged, given.suite)
    keys = [one.evaluations[suite] for one in judged]
    evaluations = [Evaluation.from_json(store.read(key), key) for key in keys]
    if given.output == "table":
        print(text_table(comparison(store, names, evaluations)))
    else:
        show(list(rows(store, names, evaluations)), given.output)
    if given.html:
        given.html.parent.mkdir(parents=True, exist_ok=True)
        given.html.write_text(page(comparison(store, names, evaluations), suite, evaluations), encoding="utf-8")
        say(f"page: {given.html}")
    return 0


def find(store: Store, reference: str) -> list[Judged]:
    """What a person names, with its evaluations; a sweep is all its trials. Raises `NotFoundError` or `ConfigError`."""
    if match := _CYCLE(reference):
        return [_of_cycle(store, int(match["cycle"]), match["name"] or "")]
    if reference == "champion":
        champion = Champion.from_json(store.read("champion.json"), "champion.json")
        return [Judged("champion", _evaluations(store, champion.model_digest, "the champion"))]
    if reference.startswith("evaluations/"):
        evaluation = Evaluation.from_json(store.read(reference), reference)
        return [Judged(_run_name(evaluation.model), {evaluation.suite_digest: reference})]
    if reference.startswith("runs/"):
        folder = reference.strip("/").removesuffix("/model")
        key = f"{folder}/result.json"
        if not store.exists(key):
            raise NotFoundError(f"{store.uri} has no {key}: there is no such run, or it is not done")
        digest = json.loads(store.read(key))["model_digest"]
        return [Judged(_run_name(folder), _evaluations(store, digest, folder))]
    if reference.startswith("sweeps/"):
        return _of_sweep(store, reference.removesuffix(".json"))
    raise ConfigError(
        f"{reference!r} names nothing to compare; give a cycle such as 3, 3/raw, runs/000003-raw, champion, "
        "sweeps/DIGEST, evaluations/....json, or the id of a run"
    )


def shared(judged: Sequence[Judged], wanted: str) -> str:
    """The suite all were judged on. Raises `ConfigError` if they share several, `DataError` if none."""
    if len({one.name for one in judged}) < len(judged):
        raise ConfigError("the same run is named twice; give different ones")
    suites = set.intersection(*(set(one.evaluations) for one in judged))
    if wanted:
        suites &= {wanted}
    if len(suites) != 1:
        own = "; ".join(f"{one.name}: {', '.join(sorted(one.evaluations)) or 'none'}" for one in judged)
        told = "share several suites; choose one with --suite" if suites else "share no suite; evaluate them on one"
        raise (ConfigError if suites else DataError)(f"these {told} ({own})")
    return suites.pop()


def comparison(store: Store, names: Sequence[str], evaluations: Sequence[Evaluation]) -> Comparison:
    """Metric by metric, with differences to the first; without them where outcomes are missing."""
    if has_outcomes(store, evaluations):
        return side_by_side(store, dict(zip(names, evaluations, strict=True)))
    say("there are no intervals: what these models got right, item by item, is not in the store")
    return _without_intervals(names, evaluations)


def rows(store: Store, names: Sequence[str], evaluations: Sequence[Evaluation]) -> Iterator[dict[str, Any]]:
    """One for each metric and run; what is not known is null."""
    if not has_outcomes(store, evaluations):
        for name, evaluation in zip(names, evaluations, strict=True):
            for benchmark in evaluation.benchmarks:
                for metric, value in benchmark.metrics.items():
                    yield _cell(benchmark.name, metric, name, value, None)
            yield _cell("average", "average", name, evaluation.average, None)
        return
    compared = Compared.read(store, names, evaluations)
    for of, metric in (pair for of_kind in compared.metrics().values() for pair in of_kind):
        values, differences, items = compared.row(of, metric)
        for name, value, difference in zip(names, values, differences, strict=True):
            yield {**_cell(of, metric, name, value, difference), "items": items}
    for name, value, difference in zip(names, *compared.average(), strict=True):
        yield _cell("average", "average", name, value, difference)


def has_outcomes(store: Store, evaluations: Sequence[Evaluation]) -> bool:
    """Whether the store has what each model got right, item by item."""
    return all(store.exists(evaluation.outcomes) for evaluation in evaluations)


def _cell(
    benchmark: str, metric: str, run: str, value: float, difference: tuple[float, float, float] | None
) -> dict[str, Any]:
    gain, low, high = difference or (None, None, None)
    where = {"benchmark": benchmark, "metric": metric, "run": run}
    return {**where, "value": value, "difference": gain, "low": low, "high": high, "items": None}


def page(compared: Comparison, suite: str, evaluations: Sequence[Evaluation]) -> str:
    """The comparison as one HTML page."""
    names = [model.name for model in compared.models]
    digests = {f"model {name}": e.model_digest for name, e in zip(names, evaluations, strict=True)}
    return render(
        Report(
            title=" against ".join(names) if len(names) < 4 else f"{len(names)} runs",
            comparison=compared,
            run=Provenance(
                digests={"suite": suite, **digests},
                code_version=__version__,
                command=f"python -m pipelines compare {' '.join(e.model.removesuffix('/model') for e in evaluations)}",
            ),
        )
    )


def _references(given: argparse.Namespace) -> tuple[str, list[str]]:
    """The store, and what is to be compared in it; ids of runs become cycles of their store."""
    if not any(_UUID(reference) for reference in given.runs):
        if not given.store:
            raise ConfigError("--store is missing: give the root of the store")
        return given.store, given.runs
    client = connect.connect(given).client
    stores = {given.store} - {""}
    references = []
    for reference in given.runs:
        if not _UUID(reference):
            references.append(reference)
            continue
        config = client.get_run(reference).runtime_config
        inputs = dict(config.parameters or {}) if config else {}
        stores.add(str(inputs.get("store", "")))
        references.append(_made_by(reference, inputs))
    if len(stores - {""}) != 1:
        raise ConfigError(f"these runs are of different stores ({', '.join(sorted(stores))}); compare within one")
    return stores.pop(), references


def _made_by(run_id: str, inputs: Mapping[str, Any]) -> str:
    """What a run on the cluster has made, by its inputs: a cycle, a sweep, or nothing but an evaluation."""
    if not inputs.get("store"):
        raise ConfigError(f"run {run_id} has no input `store`: it is none of ours")
    store = open_store(str(inputs["store"]))
    if "sweep_trials" in inputs:
        return _sweep_of(store, run_id, inputs)
    if "evaluate_model" in inputs:
        return str(inputs["evaluate_model"]) or "champion"
    if number := int(inputs.get("plan_cycle") or 0):
        return str(number)
    for number in range(newest_cycle(store), 0, -1):
        key = f"cycles/{number:06d}.stages/promote.json"
        if store.exists(key) and json.loads(store.read(key)).get("owner") == run_id:
            return str(number)
    raise NotFoundError(
        f"run {run_id} has finished no cycle of {store.uri}: see `python -m pipelines status {run_id}`, or name the "
        f"cycle instead (1 to {newest_cycle(store)})"
    )


def _sweep_of(store: Store, run_id: str, inputs: Mapping[str, Any]) -> str:
    """The finished sweep that a run with these inputs planned. Raises `NotFoundError` if that is none, or several."""
    config = settings_of("sweep", inputs)
    settings, trials = resolve(config)
    planned = {"settings": settings, "points": trials, "suite": suite_digest(config.suite)}
    if config.dataset:  # else that of the newest cycle there was
        planned["dataset"] = config.dataset
    wanted = json.loads(canonical_json(planned))
    plans = {key: json.loads(store.read(key)) for key in store.list("sweeps/") if _PLAN(key)}
    fitting = [key for key, plan in plans.items() if all(plan.get(name) == value for name, value in wanted.items())]
    found = [key.removesuffix(".plan.json") for key in fitting]
    done = [sweep for sweep in found if store.exists(f"{sweep}.json")]
    if len(found) != 1 or not done:
        raise NotFoundError(
            f"run {run_id} tried {', '.join(trial['name'] for trial in trials)}; finished sweeps of {store.uri} with "
            f"just its settings, suite and data: {', '.join(done) or 'none'} ({len(found)} planned). Name one of "
            "them instead"
        )
    return found[0]


def _of_cycle(store: Store, cycle: int, name: str) -> Judged:
    key = record_key(cycle)
    if not store.exists(key):
        raise NotFoundError(f"{store.uri} has no {key}: cycle {cycle} is not done; there are {newest_cycle(store)}")
    record = CycleRecord.from_json(store.read(key), key)
    runs = {run["name"]: run for run in record.runs}
    candidate = next((n for n, run in runs.items() if f"{run['run']}/model" == record.candidate), "")
    chosen = name or candidate
    if chosen not in runs:
        raise NotFoundError(f"cycle {cycle} has no run {chosen!r}; it has {', '.join(runs)}")
    run = runs[chosen]
    found = _evaluations(store, run["model_digest"], f"cycle {cycle}")
    return Judged(f"cycle {cycle}: {chosen}", found)


def _of_sweep(store: Store, sweep: str) -> list[Judged]:
    key = f"{sweep}.json"
    if not store.exists(key):
        raise NotFoundError(f"{store.uri} has no {key}: there is no such sweep, or it is not done")
    trials = json.loads(store.read(key))["points"]
    return [Judged(trial["name"], find(store, trial["evaluation"])[0].evaluations) for trial in trials]


def _evaluations(store: Store, digest: str, of: str) -> dict[str, str]:
    """Evaluations of a model by suite. Raises `NotFoundError` if there are none."""
    pattern = re.compile(rf"evaluations/{re.escape(digest)}/([^/.]+)\.json")
    found = {m[1]: key for key in store.list(f"evaluations/{digest}/") if (m := pattern.fullmatch(key))}
    if not found:
        raise NotFoundError(f"the model of {of} was not judged yet; run `hqclip evaluate --store {store.uri} ...`")
    return found


def _run_name(model: str) -> str:
    return model.removesuffix("/model").removeprefix("runs/")


def _without_intervals(names: Sequence[str], evaluations: Sequence[Evaluation]) -> Comparison:
    """The scores alone."""
    models = tuple(Model(name) for name in names)
    metrics: dict[str, dict[tuple[str, str], list[Score | None]]] = {}
    items = {}
    for number, evaluation in enumerate(evaluations):
        for benchmark in evaluation.benchmarks:
            items[benchmark.name] = benchmark.items
            for metric, value in benchmark.metrics.items():
                of_kind = metrics.setdefault(benchmark.kind, {})
                of_kind.setdefault((benchmark.name, metric), [None] * len(models))[number] = Score(value)
    groups = tuple(
        Group(kind, tuple(Row(NAMES.get(m, m), name, tuple(s), items[name]) for (name, m), s in found.items()))
        for kind, found in metrics.items()
    )
    scores = tuple(Score(evaluation.average) for evaluation in evaluations)
    return Comparison(models, Row("average", "of the benchmarks' main metrics", scores), groups, models[0].name)
