"""`python -m pipelines logs`: what the tasks of a run said, while it goes on and long after it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from hqclip.errors import ConfigError, HQClipError, NotFoundError
from hqclip.settings import did_you_mean
from pipelines.client import connect
from pipelines.client.connect import Kubeflow
from pipelines.client.find import ENDED, add_run_argument, find_run, is_launched
from pipelines.client.output import say
from pipelines.client.pods import pod_log
from pipelines.client.task_logs import our_lines, read_log
from pipelines.client.tasks import Attempt, Task, Told, tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_run_argument(parser)
    parser.add_argument("--task", default="", help="only this task: `train` for all trials, `train-TRIAL` for one")
    parser.add_argument("--tail", type=int, default=0, metavar="LINES", help="only the last lines of each task (all)")
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Lines on stdout, each with its task. Raises `NotFoundError` if there is none to show."""
    if given.tail < 0:
        raise ConfigError(f"--tail is {given.tail}; give 0 or more")
    kubeflow = connect.connect(given)
    told = tell(kubeflow, find_run(kubeflow, given.run))
    for source in told.missing:
        say(f"not to be seen: {source}")
    shown, gone, silent = 0, dict[str, str](), dict[str, str]()
    for task in chosen(told, given.task):
        for number, attempt in enumerate(task.attempts, 1):
            if not attempt.ran:  # no pod could be made
                continue
            name = f"{task.name} {number}/{len(task.attempts)}" if len(task.attempts) > 1 else task.name
            lines, fault = lines_of(kubeflow, told, attempt)
            if fault:
                (gone if attempt.state in ENDED else silent)[name] = fault
            for line in lines[-given.tail :]:
                print(f"[{name}] {line}")
                shown += 1
    if not shown:
        raise NotFoundError(_nothing(kubeflow, told, given.task, gone, silent))
    _say_what_lacks("no log is left of", gone)
    _say_what_lacks("nothing is to be read yet of", silent)
    return 0


def _say_what_lacks(what: str, faults: Mapping[str, str]) -> None:
    for fault in dict.fromkeys(faults.values()):
        say(f"{what} {', '.join(name for name, why in faults.items() if why == fault)}: {fault}")


def chosen(told: Told, name: str) -> list[Task]:
    """The tasks of this name, or all. Raises `NotFoundError`."""
    found = [task for task in told.tasks if not name or task.is_called(name)]
    if not found and told.tasks:
        known = [task.name for task in told.tasks]
        if told.state not in ENDED:
            raise NotFoundError(f"no task {name!r} has begun{did_you_mean(name, known)}; so far {', '.join(known)}")
        raise NotFoundError(f"there is no task {name!r}{did_you_mean(name, known)}; one of {', '.join(known)}")
    return found


def lines_of(kubeflow: Kubeflow, told: Told, attempt: Attempt) -> tuple[list[str], str]:
    """What an attempt said, out of its log, else the end of it that its record keeps; why there is no log."""
    try:
        return our_lines(read_log(kubeflow, told.run.run_id, attempt.pod, attempt.node)), ""
    except NotFoundError:
        if attempt.state == "PENDING":
            return [], "it has not begun"
        if attempt.state in ENDED:
            return _last_words(attempt), "neither its pod nor an archive of what it said is there"
        fault = "Kubeflow has no log of it"  # nor of pods that are there, if it may not read theirs: Kubernetes has
    except HQClipError as error:  # such logs are not served
        fault = str(error)
    try:
        return our_lines(pod_log(kubeflow, attempt.pod)), ""
    except HQClipError as error:
        return _last_words(attempt), f"{fault}; {error}"


def _last_words(attempt: Attempt) -> list[str]:
    return list(attempt.record.last) if attempt.record else []


def _nothing(kubeflow: Kubeflow, told: Told, name: str, gone: Mapping[str, str], silent: Mapping[str, str]) -> str:
    what = f"task {name} of run {told.run.run_id}" if name else f"run {told.run.run_id}"
    told_of = [f"no log is left of {', '.join(gone)}"] if gone else []
    told_of += [f"{name}: {fault}" for name, fault in silent.items()]
    why = "; ".join(told_of) or "no pod of it has run yet"
    more = "; what launched jobs said is in launch/ of the store" if is_launched(told.run) else ""
    page = kubeflow.link("runs", told.run.run_id)
    return f"{what}: {why}{more}{page and f'; its page in Kubeflow: {page}'}"
