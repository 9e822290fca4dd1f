"""`python -m pipelines cancel`: first the GPU jobs of a run, then the run: its exit task may not run by then."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from hqclip.cycle.lock import STALE_S, release
from hqclip.errors import ConfigError, HQClipError, UnavailableError
from hqclip.launch.config import JobsCancelConfig
from hqclip.launch.jobs import all_jobs, cancel_jobs
from hqclip.launch.naming import LAUNCH_ID, clean
from hqclip.launch.schedulers.protocol import ENDED as OVER
from hqclip.stages import LAUNCHABLE
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow
from pipelines.client.find import (
    ENDED,
    add_run_argument,
    find_run,
    is_id,
    is_launched,
    parameters_of,
    state_of,
    store_of,
)
from pipelines.client.output import say, show
from pipelines.client.pods import open_cluster
from pipelines.client.tasks import tell
from pipelines.client.versions import spec_of
from pipelines.lines import launched_in, line_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_run_argument(parser)
    parser.add_argument("--jobs-namespace", default="", help="where its jobs are, if not where its pods are")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    parser.add_argument("--yes", action="store_true", help="do not ask, though the run is not named by its id")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """0 if nothing of the run is left, for all one can see; 69 if it was terminated, but jobs of it may run on."""
    kubeflow = connect.connect(given)
    found = find_run(kubeflow, given.run)
    if given.dry_run:
        show({"run_id": found.run_id, "state": state_of(found), "deletes_jobs_of": found.run_id}, given.output)
        return 0
    if not (given.yes or is_id(given.run)):
        _ask(kubeflow, found, given.run)
    if state_of(found) in ENDED:
        say(f"{found.display_name} had ended before, {state_of(found)}: only what is left of it is looked for")
    namespace = given.jobs_namespace or kubeflow.kubernetes_namespace
    under_way = _launching(kubeflow, found)
    deleted, fault = _delete_jobs(kubeflow, found.run_id, namespace)
    if state_of(found) not in ENDED:
        terminate(kubeflow, found.run_id)
        if fault is None:  # what its launchers began in between
            more, fault = _delete_jobs(kubeflow, found.run_id, namespace)
            deleted += [job for job in more if job not in deleted]
    _free_store(found)
    found = kubeflow.client.get_run(found.run_id)
    show({"run_id": found.run_id, "state": state_of(found), "jobs_deleted": deleted}, given.output)
    if fault is not None and not is_launched(found):
        say(f"it launches no jobs, and none were looked for: {fault}")
    elif fault is not None:
        raise UnavailableError(
            f"the run is terminated, but its jobs were not deleted, and may hold GPUs: {fault}. Where the cluster can "
            f"be reached: hqclip jobs cancel --of {found.run_id} --namespace {namespace}"
        )
    elif under_way and not deleted:
        raise UnavailableError(
            f"the run is terminated, but no job of it was found in namespace {namespace}, though {under_way}: if its "
            "jobs are elsewhere, they run on and hold GPUs. Name where the pods of its runs are (--namespace), or "
            "where its jobs are (--jobs-namespace), and cancel again"
        )
    elif is_launched(found) and not deleted:
        say(f"no job of it is under way in namespace {namespace}")
    return 0


def _ask(kubeflow: Kubeflow, run: Any, called: str) -> None:
    """Whether this is the run that is meant. Raises `ConfigError` if not, or if nobody is there to ask."""
    about = f"run {run.run_id} ({run.display_name}, {state_of(run)})"
    if not sys.stdin.isatty():
        raise ConfigError(
            f"{called} is {about} now; name it by its id, {kubeflow.command('cancel', run.run_id)}, or add --yes"
        )
    say(f"cancel {about}? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigError("nothing was cancelled")


def _launching(kubeflow: Kubeflow, run: Any) -> str:
    """Why a run may have a job just now, as far as Kubeflow tells; empty if nothing speaks for one."""
    if not is_launched(run) or state_of(run) in (*ENDED, "PENDING"):
        return ""
    tasks = tell(kubeflow, run, records=False).tasks
    launched = launched_in(line_of(spec_of(kubeflow, run))) or LAUNCHABLE
    launching = [task.name for task in tasks if task.stage in launched and task.state == "RUNNING"]
    if not tasks:
        return "it was under way"
    return f"{', '.join(launching)} was under way" if launching else ""


def _free_store(run: Any) -> None:
    """Let the next run in: the exit task of a terminated run, which would do it, may not run."""
    try:
        if store := store_of(run):
            release(store, run.run_id)
    except HQClipError as error:
        where, minutes = parameters_of(run)["store"], STALE_S / 60
        say(f"its lock on {where} was not freed, and keeps others out for up to {minutes:.0f} minutes: {error}")


def terminate(kubeflow: Kubeflow, run_id: str) -> None:
    """Terminate a run; one that has just ended by itself is let be."""
    try:
        kubeflow.client.terminate_run(run_id)
    except ConfigError:
        if state_of(kubeflow.client.get_run(run_id)) not in ENDED:
            raise


def _delete_jobs(kubeflow: Kubeflow, run_id: str, namespace: str) -> tuple[list[str], HQClipError | None]:
    """Names of the jobs that were ended by being deleted, and what kept us from it; what had ended goes unnamed."""
    try:
        cluster = open_cluster(kubeflow, namespace)
        cluster.list("v1", "pods", limit="1")  # whether anything answers: those who delete are more patient
        jobs = all_jobs(cluster, f",{LAUNCH_ID}={clean(run_id)}")
        over = {body["metadata"]["name"] for scheduler, body in jobs if scheduler.state(cluster, body).phase in OVER}
        deleted = cancel_jobs(JobsCancelConfig(of=run_id, namespace=namespace))["cancelled"]
        return [job for job in deleted if job not in over], None
    except HQClipError as error:
        return [], error
