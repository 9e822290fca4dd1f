"""What a person calls models in, their evaluations on one suite out.

A reference is a cycle (`3`: its candidate; `3/raw`: one of its runs), a run folder (`runs/000003-raw`), a sweep
(`sweeps/DIGEST`: all its trials), an evaluation (`evaluations/.../....json`), or `champion`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hqclip.cycle.keys import newest_cycle, record_key
from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.exported import trained_digest
from hqclip.records import Champion, CycleRecord, Evaluation, Sweep
from hqclip.store import Store
from hqclip.store.documents import read_json

SELECT_AGAIN = "delete it and run `hqclip select` again"
_CYCLE = re.compile(r"(?P<cycle>[1-9]\d*)(/(?P<name>[\w-]+))?", re.ASCII).fullmatch


@dataclass(frozen=True)
class Judged:
    """One model: what it is called, and the keys of its evaluations by suite."""

    name: str
    evaluations: Mapping[str, str]


def find_all(store: Store, references: Sequence[str], suite: str = "") -> dict[str, Evaluation]:
    """The models by name, each as it was judged on the suite of this digest, or on the one suite that all share.

    Raises `NotFoundError`, `ConfigError` or `DataError`.
    """
    judged = [one for reference in references for one in find(store, reference)]
    if len({one.name for one in judged}) < len(judged):
        raise ConfigError("the same run is named twice; give different ones")
    on = _shared(judged, suite)
    keys = {one.name: one.evaluations[on] for one in judged}
    return {name: Evaluation.from_json(store.read(key), key) for name, key in keys.items()}


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
        return [_of_run(store, reference.strip("/").removesuffix("/model"))]
    if reference.startswith("sweeps/"):
        return _of_sweep(store, reference.removesuffix(".json"))
    raise ConfigError(
        f"{reference!r} names nothing to compare; give a cycle such as 3, 3/raw, runs/000003-raw, champion, "
        "sweeps/DIGEST, evaluations/....json, or, to `python -m pipelines compare`, the id of a run"
    )


def _shared(judged: Sequence[Judged], wanted: str) -> str:
    """The suite all were judged on. Raises `ConfigError` if they share several, `DataError` if none."""
    suites = set.intersection(*(set(one.evaluations) for one in judged))
    if wanted:
        suites &= {wanted}
    if len(suites) != 1:
        own = "; ".join(f"{one.name}: {', '.join(sorted(one.evaluations)) or 'none'}" for one in judged)
        told = "share several suites; choose one with --suite" if suites else "share no suite; evaluate them on one"
        raise (ConfigError if suites else DataError)(f"these {told} ({own})")
    return suites.pop()


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
    found = _evaluations(store, runs[chosen]["model_digest"], f"cycle {cycle}")
    return Judged(f"cycle {cycle}: {chosen}", found)


def _of_run(store: Store, folder: str) -> Judged:
    key = f"{folder}/result.json"
    if not store.exists(key):
        raise NotFoundError(f"{store.uri} has no {key}: there is no such run, or it is not done")
    return Judged(_run_name(folder), _evaluations(store, trained_digest(store, folder), folder))


def _of_sweep(store: Store, sweep: str) -> list[Judged]:
    key = f"{sweep}.json"
    if not store.exists(key):
        raise NotFoundError(f"{store.uri} has no {key}: there is no such sweep, or it is not done")
    found = read_json(store, key, SELECT_AGAIN, Sweep)
    try:
        return [Judged(t["name"], find(store, t["evaluation"])[0].evaluations) for t in found["points"]]
    except (KeyError, TypeError) as error:
        raise DataError(f"{store.uri}/{key} names no trials ({error!r}); {SELECT_AGAIN}") from error


def _evaluations(store: Store, digest: str, of: str) -> dict[str, str]:
    """Evaluations of a model by suite. Raises `NotFoundError` if there are none."""
    pattern = re.compile(rf"evaluations/{re.escape(digest)}/([^/.]+)\.json")
    found = {m[1]: key for key in store.list(f"evaluations/{digest}/") if (m := pattern.fullmatch(key))}
    if not found:
        raise NotFoundError(f"the model of {of} was not judged yet; run `hqclip evaluate --store {store.uri} ...`")
    return found


def _run_name(model: str) -> str:
    return model.removesuffix("/model").removeprefix("runs/")
