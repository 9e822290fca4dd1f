"""A closed cycle in; in MLflow a run for each of its training runs, and a version of the registered model, out.

A run has settings, curves, scores and the model's files. One that is in MLflow already, whole, is left as it is but for
the verdict, on which a person may have decided since; one whose export was cut short is replaced. The version is the
cycle's candidate, and has the alias `champion` while that is in force.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hqclip import log
from hqclip.cycle.config import ExportMlflowConfig
from hqclip.cycle.export_facts import COMMIT, facts_of, is_in_force, scores_of
from hqclip.cycle.links import Document, Link, champion_cycle, read_link
from hqclip.cycle.mlflow_server import Mlflow
from hqclip.errors import ConfigError, ConflictError
from hqclip.exported import check_files
from hqclip.store import Store, in_bucket, open_store
from hqclip.store.documents import read_curve, read_json_or_warn
from hqclip.store.leftovers import scratch_folder

SERVER = "MLFLOW_TRACKING_URI"  # environment variable
NAME = "hqclip.run"  # the tag by which a run is found again
CHAMPION = "champion"  # the alias of the model in force
BATCH = 1000  # metrics that one request may bring; of params it is 100
PARAMS = 100
MOST_TEXT = 5000  # characters of a tag, of a param 6000
FINISHED = "FINISHED"
RUN_ID, VERSION = "the id of a run", "the number of a version"
_VERDICT = {"hqclip.verdict", "hqclip.reason"}  # tags that a later decision changes
_NOT_ALLOWED = re.compile(r"[^\w\-. :/]", re.ASCII)


def export(config: ExportMlflowConfig) -> dict[str, Any]:
    """The ids of the runs in MLflow by their names here, and the number of the version; empty if there is none.

    Raises `NotFoundError` for a cycle that is not closed, `DataError` for a model that is not as it was judged, and
    what `Mlflow` raises.
    """
    store = open_store(config.store)
    link = read_link(store, config.cycle or champion_cycle(store))
    uri = config.tracking_uri or os.environ.get(SERVER, "")
    if not uri:
        raise ConfigError(f"which MLflow? give --tracking-uri http://host:5000, or set {SERVER}")
    with contextlib.redirect_stdout(sys.stderr):  # MLflow tells there where a run is to be seen
        client = Mlflow(uri)
        experiment = _experiment(client, config.experiment)
        runs = {run["run"]: _bring(client, experiment, store, link, run, config.models) for run in link.record.runs}
        version = _register(client, config, store, link, runs[link.candidate["run"]])
    return {
        "cycle": link.record.cycle,
        "tracking_uri": client.uri,
        "experiment": config.experiment,
        "runs": runs,
        "registered_model": config.registered_model,
        "version": version,
    }


def _experiment(client: Mlflow, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return client.told(found.experiment_id if found else client.create_experiment(name), "the id of an experiment")


def _bring(client: Mlflow, experiment: str, store: Store, link: Link, run: Document, models: bool) -> str:
    """One training run; its id in MLflow. Raises `DataError` before it is made if its model is not as it was judged."""
    tags = _tags(store, link, run)
    for found in client.search_runs([experiment], _filter(store, run)):
        id = client.told(found.info.run_id, RUN_ID)
        if found.info.status == FINISHED:
            log.info("export", f"{run['run']} is in MLflow already, as {id}")
            for tag in _VERDICT & tags.keys():
                client.set_tag(id, tag, tags[tag])
            return id
        client.delete_run(id)
    model = f"{run['run']}/model"
    if models:
        check_files(store, model, run["model_digest"])
    made = client.create_run(experiment, run_name=run["run"].removeprefix("runs/"), tags=tags)
    name = client.told(made.info.run_id, RUN_ID)
    _log(client, name, _params(store, run), list(_metrics(store, link, run)))
    if models:
        client.check_files(client.told(made.info.artifact_uri, "a place for the files of a run"))
        _bring_model(client, name, store, model)
    client.set_terminated(name, FINISHED)
    return name


def _register(client: Mlflow, config: ExportMlflowConfig, store: Store, link: Link, run_id: str) -> str:
    """The version of the registered model that is the cycle's candidate; made if it is not there."""
    folder = f"{link.candidate['run']}/model"
    if not config.models and not in_bucket(store.uri):
        log.info("export", f"no version was made: models is false, and no server can read {store.uri}/{folder}")
        return ""
    name, tags = config.registered_model, _tags(store, link, link.candidate)
    versions = client.search_model_versions(f"name = '{_quoted(name)}' and run_id = '{run_id}'")
    if versions:
        number = client.told(str(versions[0].version), VERSION)
        for tag in _VERDICT & tags.keys():
            client.set_model_version_tag(name, number, tag, tags[tag])
    else:
        if not config.models:
            check_files(store, folder, link.candidate["model_digest"])
        _make_model(client, name)
        source = f"{client.get_run(run_id).info.artifact_uri}/model" if config.models else f"{store.uri}/{folder}"
        made = client.create_model_version(name, source, run_id, tags, await_creation_for=None)
        number = client.told(str(made.version), VERSION)
    if is_in_force(store, link):
        client.set_registered_model_alias(name, CHAMPION, number)
    return number


def _make_model(client: Mlflow, name: str) -> None:
    with contextlib.suppress(ConflictError):
        client.create_registered_model(name, description="CLIP models; the alias champion is the one in force")


def _log(client: Mlflow, name: str, params: Sequence[Any], metrics: Sequence[Any]) -> None:
    for start in range(0, len(params), PARAMS):
        client.log_batch(name, params=params[start : start + PARAMS])
    for start in range(0, len(metrics), BATCH):
        client.log_batch(name, metrics=metrics[start : start + BATCH])


def _tags(store: Store, link: Link, run: Document) -> dict[str, str]:
    facts = facts_of(store, link, run)
    commit = {"mlflow.source.git.commit": facts.pop(COMMIT)} if COMMIT in facts else {}
    tags = {**{f"hqclip.{name}": fact for name, fact in facts.items()}, **commit}
    return {name: str(value)[:MOST_TEXT] for name, value in tags.items()}


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
    for name, score in scores_of(link.evaluations.get(run["name"])).items():
        yield Metric(_NOT_ALLOWED.sub("_", name), score, now, last)


def _bring_model(client: Mlflow, name: str, store: Store, model: str) -> None:
    """All files of the model's folder, one at a time."""
    for key in store.list(f"{model}/"):
        with scratch_folder() as folder:
            path = Path(folder) / key.rpartition("/")[2]
            store.download(key, path)
            client.log_artifact(name, str(path), "model")


def _filter(store: Store, run: Document) -> str:
    return f"tags.`{NAME}` = '{_quoted(store.uri)}/{run['run']}'"


def _quoted(text: str) -> str:
    """For a filter, which knows no escape."""
    if "'" in text:
        raise ConfigError(f"{text}: MLflow cannot look for a name with a quote in it")
    return text
