"""`python -m pipelines status`: a run and its tasks, or the newest runs of this project."""

from __future__ import annotations

import argparse
import itertools
import re
from typing import Any

from hqclip.errors import ConfigError, NotFoundError
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow
from pipelines.client.find import ENDED, find_run, is_ours, list_runs, offer_runs, our_pipelines, seconds_of, state_of
from pipelines.client.outcome import outcome, page
from pipelines.client.output import say, say_next, show
from pipelines.client.reasons import explain
from pipelines.client.said import phrase
from pipelines.client.tasks import Task, Told, tell
from pipelines.client.versions import version_name

_SAYS_NOTHING = re.compile(r"^main: Error \(exit code \d+\)$|exceeded its deadline$")  # the state tells as much


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    which = "id, its start, name, or `latest`; without, runs are listed"
    offer_runs(parser.add_argument("run", metavar="RUN", nargs="?", help=which))
    parser.add_argument("--experiment", default="", help="only runs of this experiment")
    parser.add_argument("--limit", type=int, default=20, help="runs that are listed, the newest first (20)")
    parser.add_argument("--all", action="store_true", help="list runs of pipelines that are not of this project, too")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """A run with its tasks, or the newest runs."""
    if given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}; give 1 or more")
    kubeflow = connect.connect(given)
    asked = {"experiment_id": find_experiment(kubeflow, given.experiment)} if given.experiment else {}
    if not given.run:
        own = () if given.all else our_pipelines(kubeflow)
        found = (each for each in list_runs(kubeflow, **asked) if given.all or is_ours(each, own))
        rows = [summary(kubeflow, each) for each in itertools.islice(found, given.limit)]
        if given.output == "table":
            rows = [{name: row[name] for name in ("run_id", "name", "state", "created")} for row in rows]
        show(rows, given.output)
        return 0
    told = tell(kubeflow, find_run(kubeflow, given.run, **asked))
    came_of_it = outcome(kubeflow, told, explain(kubeflow, told))
    reference = told.run.pipeline_version_reference
    version = version_name(kubeflow, reference) if reference is not None else ""
    about = {**summary(kubeflow, told.run), "version": version, "outcome": came_of_it, "page": page(told)}
    if given.output == "table":
        show(linked(about))
        if told.tasks:
            print()
            show([row(task) for task in told.tasks])
    else:
        show({**about, "tasks": [_whole(task) for task in told.tasks]}, given.output)
    _say_more(kubeflow, told)
    return 0


def row(task: Task) -> dict[str, Any]:
    """A task as people see it."""
    return {
        "task": task.name,
        "state": task.state,
        "seconds": None if task.seconds is None else round(task.seconds),
        "attempts": len(task.attempts) or None,
        "said": said(task),
    }


def said(task: Task) -> str:
    """The one line about it: what went wrong, what it decided, or what it waits for."""
    record, last = task.record, task.last
    if task.state == "SUCCEEDED":
        return phrase(record.stage, record.decided) if record else ""
    if record and record.error:
        return record.error
    if task.drivers and task.state == "FAILED":
        return "Kubeflow did not let it begin; explain says why"
    return "" if last is None or task.state == "OMITTED" or _SAYS_NOTHING.search(last.message) else last.message


def find_experiment(kubeflow: Kubeflow, name: str) -> str:
    """The id of an experiment. Raises `NotFoundError`."""
    try:
        return str(kubeflow.client.get_experiment(experiment_name=name, namespace=kubeflow.namespace).experiment_id)
    except ValueError as error:  # how kfp says that there is none
        raise NotFoundError(f"there is no experiment {name!r}") from error


def summary(kubeflow: Kubeflow, run: Any) -> dict[str, Any]:
    """A run in one row."""
    return {
        "run_id": run.run_id,
        "name": run.display_name,
        "state": state_of(run),
        "created": run.created_at.isoformat(timespec="seconds") if run.created_at else "",
        "seconds": seconds_of(run),
        "link": kubeflow.link("runs", run.run_id),
    }


def linked(about: dict[str, Any]) -> dict[str, Any]:
    """For people: without the link if there is none, which `doctor` says."""
    return {name: value for name, value in about.items() if name != "link" or value}


def _whole(task: Task) -> dict[str, Any]:
    """A task with all that is known of it."""
    last, record = task.last, task.record
    return {
        **row(task),
        "stage": task.stage,
        "trial": task.trial,
        "started": task.started,
        "ended": task.ended,
        "exit_code": last.exit_code if last else None,
        "reason": record.reason if record else "",
        "pod": last.pod if last else "",
        "machine": last.machine if last else "",
        "decided": dict(record.decided) if record else {},
        "job": dict(record.job) if record else {},
    }


def _say_more(kubeflow: Kubeflow, told: Told) -> None:
    for source in told.missing:
        say(f"not to be seen: {source}")
    if told.state in ("FAILED", "CANCELED"):
        say_next(*(kubeflow.command(verb, told.run.run_id) for verb in ("explain", "logs")))
    elif told.state not in ENDED:
        say("it is not over")
