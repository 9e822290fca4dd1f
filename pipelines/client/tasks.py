"""`python -m pipelines status`: a run and its tasks, as Kubeflow tells them."""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hqclip.errors import ConfigError, NotFoundError
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.output import say, say_next, show

ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
LATEST = "latest"
EXECUTOR = "executor"
MOST_RUNS = 1000  # looked through for a name
_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}")
_ITS_OWN = re.compile(r"(-driver|^root)$")  # tasks of Kubeflow that prepare or hold others


@dataclass(frozen=True)
class Task:
    """A task of a run; `pods` has all that ran for it, `parent` the id of the task it belongs to."""

    id: str
    name: str
    state: str
    error: str
    pods: tuple[str, ...]
    parent: str
    started: datetime | None
    ended: datetime | None

    @property
    def seconds(self) -> float | None:
        """How long it took, None until it has ended."""
        both = self.started and self.ended
        return (self.ended - self.started).total_seconds() if both else None  # type: ignore[operator]


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """The run that is meant."""
    parser.add_argument("run", metavar="RUN", help="id of a run (8 characters of it do), its name, or `latest`")


def find_run(kubeflow: Kubeflow, text: str, **asked: Any) -> Any:
    """The run of this id, start of an id, or name; the newest for `latest`. Raises `NotFoundError`.

    `asked` narrows where names are looked for, as for `list_runs`.
    """
    if _ID.fullmatch(text):
        return kubeflow.client.get_run(text)
    for run in itertools.islice(list_runs(kubeflow, **asked), MOST_RUNS):
        is_it = run.display_name == text or (len(text) >= 8 and str(run.run_id).startswith(text))
        if text == LATEST or is_it:
            return kubeflow.client.get_run(run.run_id)
    raise NotFoundError(f"there is no run {text!r}; `python -m pipelines status` lists them")


def list_runs(kubeflow: Kubeflow, **asked: Any) -> Iterator[Any]:
    """Runs, the newest first."""
    client = kubeflow.client
    return pages(client.list_runs, "runs", sort_by="created_at desc", **asked)


def state_of(run: Any) -> str:
    """A word for where it is; Kubeflow says nothing at first."""
    return str(run.state or "PENDING")


def tasks_of(run: Any) -> list[Task]:
    """The tasks that do something, in the order they were started."""
    details = (run.run_details and run.run_details.task_details) or []
    executors = [detail for detail in details if detail.display_name == EXECUTOR]
    found = [
        _task(detail, [executor for executor in executors if _is_of(executor, detail)])
        for detail in details
        if detail.display_name != EXECUTOR and not _is_root(run, detail, details)
    ]
    kept = [task for task in found if not _ITS_OWN.search(task.name) or (task.state == "FAILED" and task.error)]
    return sorted(kept, key=lambda task: (task.started is None, task.started and task.started.timestamp()))


def is_launched(run: Any) -> bool:
    """Whether tasks of it start jobs and wait for them."""
    return bool(parameters_of(run).get("plan_launch"))


def parameters_of(run: Any) -> dict[str, Any]:
    """The inputs it was given."""
    return dict((run.runtime_config and run.runtime_config.parameters) or {})


def _is_root(run: Any, detail: Any, details: list[Any]) -> bool:
    """Whether it stands for the run itself: it bears its name, as a task may, holds others, and nothing holds it."""
    if detail.display_name != run.display_name or detail.parent_task_id:
        return False
    held = {child.pod_name for other in details for child in other.child_tasks or []}
    holds = bool(detail.child_tasks) or any(other.parent_task_id == detail.task_id for other in details)
    return holds and detail.pod_name not in held


def _is_of(executor: Any, detail: Any) -> bool:
    """Whether this is what runs a task: Kubeflow lists it beside the task itself."""
    children = [child.pod_name for child in detail.child_tasks or []]
    return bool(executor.parent_task_id == detail.task_id or (executor.pod_name and executor.pod_name in children))


def _task(detail: Any, executors: list[Any]) -> Task:
    pods = []
    for part in [detail, *executors]:
        jobs = part.executor_detail
        pods += [part.pod_name, jobs and jobs.main_job, *((jobs and jobs.failed_main_jobs) or [])]
    errors = [part.error.message for part in [*executors, detail] if part.error and part.error.message]
    started = detail.start_time or detail.create_time
    return Task(
        id=str(detail.task_id or ""),
        name=str(detail.display_name or detail.task_id or ""),
        state=str(detail.state or "PENDING"),
        error="\n".join(dict.fromkeys(errors)),
        pods=tuple(str(pod) for pod in pods if pod),
        parent=str(detail.parent_task_id or ""),
        started=started,
        # Kubeflow says 1970 for what has not ended
        ended=detail.end_time if detail.end_time and detail.end_time.year > 1970 else None,
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="id, its start, name, or `latest`; without, runs are listed"
    )
    parser.add_argument("--experiment", default="", help="only runs of this experiment")
    parser.add_argument("--limit", type=int, default=20, help="runs that are listed, the newest first (20)")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """A run with its tasks, or the newest runs."""
    if given.limit < 1:
        raise ConfigError(f"--limit is {given.limit}; give 1 or more")
    kubeflow = connect.connect(given)
    asked = {"experiment_id": find_experiment(kubeflow, given.experiment)} if given.experiment else {}
    if not given.run:
        runs = itertools.islice(list_runs(kubeflow, **asked), given.limit)
        show([summary(kubeflow, each) for each in runs], given.output)
        return 0
    found = find_run(kubeflow, given.run, **asked)
    tasks = [{"task": t.name, "state": t.state, "seconds": t.seconds, "error": t.error} for t in tasks_of(found)]
    if given.output == "table":
        show(summary(kubeflow, found))
        if tasks:
            print()
            show(tasks)
    else:
        show({**summary(kubeflow, found), "tasks": tasks}, given.output)
    if state_of(found) == "FAILED":
        say_next(f"explain {found.run_id}", f"logs {found.run_id}")
    elif state_of(found) not in ENDED:
        say("it is not over")
    return 0


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
        "link": kubeflow.link("runs", run.run_id),
    }
