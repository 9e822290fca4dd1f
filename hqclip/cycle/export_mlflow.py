"""A closed cycle in, a run of MLflow for each of its training runs out: params, metrics, tags and the model's files.

A run that is in MLflow already, whole, is left as it is; one whose export was cut short is replaced.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.cycle.config import ExportMlflowConfig
from hqclip.cycle.links import Document, Link, champion_cycle, read_link
from hqclip.errors import ConfigError, MissingSoftwareError, UnavailableError
from hqclip.store import Store, open_store
from hqclip.store.documents import read_curve, read_json_or_warn
from hqclip.store.leftovers import scratch_folder

SERVER = "MLFLOW_TRACKING_URI"  # environment variable
NAME = "hqclip.run"  # the tag by which a run is found again
BATCH = 1000  # metrics that one request may bring; of params it is 100
PARAMS = 100
MOST_TEXT = 5000  # characters of a tag, of a param 6000
FINISHED = "FINISHED"
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]", re.ASCII)


def export(config: ExportMlflowConfig) -> dict[str, Any]:
    """The ids of the runs in MLflow by their names here.

    Raises `NotFoundError` for a cycle that is not closed, `MissingSoftwareError` without MLflow, `UnavailableError` if
    the server does not take it.
    """
    store = open_store(config.store)
    link = read_link(store, config.cycle or champion_cycle(store))
    uri = config.tracking_uri or os.environ.get(SERVER, "")
    if not uri:
        raise ConfigError(f"which MLflow? give --tracking-uri http://host:5000, or set {SERVER}")
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise MissingSoftwareError(f"this needs MLflow ({error}): pip install 'hqclip[mlflow]'") from error
    try:
        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, config.experiment)
        runs = {run["run"]: _bring(client, experiment, store, link, run, config.models) for run in link.record.runs}
    except (MlflowException, OSError) as error:
        raise UnavailableError(f"MLflow at {uri} did not take it: {error}; the same command continues") from error
    return {"cycle": link.record.cycle, "tracking_uri": uri, "experiment": config.experiment, "runs": runs}


def _experiment(client: Any, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name))


def _bring(client: Any, experiment: str, store: Store, link: Link, run: Document, models: bool) -> str:
    """One training run; its id in MLflow."""
    named = f"tags.`{NAME}` = '{_quoted(store.uri)}/{run['run']}'"
    for found in client.search_runs([experiment], named):
        if found.info.status == FINISHED:
            log.info("export", f"{run['run']} is in MLflow already, as {found.info.run_id}")
            return str(found.info.run_id)
        client.delete_run(found.info.run_id)
    made = client.create_run(experiment, run_name=run["run"].removeprefix("runs/"), tags=_tags(store, link, run))
    name = str(made.info.run_id)
    _log(client, name, _params(store, run), list(_metrics(store, link, run)))
    if models:
        _bring_model(client, name, store, f"{run['run']}/model")
    client.set_terminated(name, FINISHED)
    return name


def _log(client: Any, name: str, params: Sequence[Any], metrics: Sequence[Any]) -> None:
    for start in range(0, len(params), PARAMS):
        client.log_batch(name, params=params[start : start + PARAMS])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(name, metrics=metrics[start : start + BATCH])


def _tags(store: Store, link: Link, run: Document) -> dict[str, str]:
    """Where it comes from, and what became of it."""
    record, version = link.record, link.version
    made = link.results.get(run["name"], {}).get("provenance") or {}
    lvlm = (link.annotator.get("provenance") or {}).get("lvlm", {})
    is_candidate = f"{run['run']}/model" == record.candidate
    tags = {
        NAME: f"{store.uri}/{run['run']}",
        "hqclip.cycle": record.cycle,
        "hqclip.verdict": record.verdict if is_candidate else "not the candidate",
        "hqclip.reason": record.reason if is_candidate else "",
        "hqclip.model_digest": run["model_digest"],
        "hqclip.dataset": version.digest,
        "hqclip.annotator": version.annotator,
        "hqclip.pool": version.pool,
        "hqclip.lvlm": link.annotator.get("model", ""),
        "hqclip.lvlm_revision": lvlm.get("revision", ""),
        "hqclip.code_version": made.get("code_version", ""),
        "hqclip.image": made.get("image", ""),
        "hqclip.kubeflow_run": made.get("run", ""),
        "mlflow.source.git.commit": made.get("commit", ""),
    }
    return {name: str(value)[:MOST_TEXT] for name, value in tags.items() if value != ""}


def _params(store: Store, run: Document) -> list[Any]:
    """The settings of training."""
    from mlflow.entities import Param

    settings = read_json_or_warn(store, f"{run['run']}/config.json", "export") or {}
    return [Param(name, str(value)) for name, value in sorted(settings.items())]


def _metrics(store: Store, link: Link, run: Document) -> Iterator[Any]:
    """Every point of the curves at its step, and the scores at the last."""
    from mlflow.entities import Metric

    now, last = int(time.time() * 1000), 0
    for line in read_curve(store, f"{run['run']}/metrics.jsonl", "export"):
        last = int(line.pop("step"))
        yield from (Metric(f"train/{name}", value, now, last) for name, value in line.items())
    evaluation = link.evaluations.get(run["name"])
    if evaluation:
        yield Metric("evaluate/average", evaluation.average, now, last)
        for score in evaluation.benchmarks:
            for name, value in score.metrics.items():
                yield Metric(_NOT_ALLOWED.sub("_", f"evaluate/{score.name}/{name}"), value, now, last)


def _bring_model(client: Any, name: str, store: Store, model: str) -> None:
    """All files of the model's folder, one at a time."""
    for key in store.list(f"{model}/"):
        with scratch_folder() as folder:
            path = Path(folder) / key.rpartition("/")[2]
            store.download(key, path)
            client.log_artifact(name, str(path), "model")


def _quoted(text: str) -> str:
    """For a filter, which knows no escape."""
    if "'" in text:
        raise ConfigError(f"{text}: MLflow cannot look for a place with a quote in its name")
    return text
