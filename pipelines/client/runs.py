"""`python -m pipelines run` on a cluster: a version and its inputs in, a run out, and with --wait its end."""

from __future__ import annotations

import argparse
import contextlib
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp_server_api

from hqclip.errors import ConfigError, ConflictError
from hqclip.launch.platform import read_platform
from pipelines.client import connect, output
from pipelines.client.connect import Kubeflow, pages
from pipelines.client.inputs import definitions, read_inputs, require
from pipelines.client.output import say, say_next, show
from pipelines.client.patience import created
from pipelines.client.project_inputs import with_project
from pipelines.client.settings import check_run
from pipelines.client.status import linked, summary
from pipelines.client.versions import (
    add_package_arguments,
    check_images,
    chosen,
    ensure_uploaded,
    equals,
    find_version,
    kubeflow_name,
    our_names,
    read_package,
)
from pipelines.client.wait import check_waiting, wait_and_tell
from pipelines.compiling import PIPELINES

EXPERIMENT = "hqclip"
POLL_S = 15.0
BUDGETS = ("budget", "budget_dollars")  # flags; the inputs begin with plan_


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of a run on a cluster."""
    add_package_arguments(parser)
    add_input_arguments(parser)
    parser.add_argument(
        "--version", default="", help="an uploaded version, `latest`, or a channel; without, what compiles here"
    )
    parser.add_argument("--experiment", default=EXPERIMENT, help=f"what the run belongs to ({EXPERIMENT})")
    parser.add_argument("--name", default="", help="of the run (pipeline and time)")
    parser.add_argument("--service-account", default="", help="of its pods (the platform's, or Kubeflow's)")
    parser.add_argument("--pipeline-root", default="", help="where artifacts go (that of Kubeflow)")
    parser.add_argument("--wait", action="store_true", help="until it ends; the exit code is 1 if it did not succeed")
    parser.add_argument("--poll-s", type=float, default=POLL_S, help=f"most seconds between two looks ({POLL_S:g})")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    output.add_arguments(parser)
    connect.add_arguments(parser)


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """How inputs of a pipeline are given."""
    parser.add_argument("--set", action="append", default=[], metavar="INPUT=VALUE", help="a pipeline input; repeat it")
    parser.add_argument("--params", type=Path, metavar="FILE", help="inputs as YAML or JSON; --set wins over them")


def add_budget_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that limit what is spent; they are pipeline inputs, so that a form and schedules have them too."""
    group = parser.add_argument_group("budget")
    group.add_argument(
        "--budget",
        default="",
        metavar="GPU_HOURS",
        help="of the cycle or sweep in all its runs: more is refused, or stopped with a checkpoint (plan_budget)",
    )
    group.add_argument(
        "--budget-dollars", default="", metavar="USD", help="the same in USD, by plan_gpu_prices (plan_budget_dollars)"
    )


def budget_inputs(given: argparse.Namespace) -> list[str]:
    """What these flags say, as pipeline inputs."""
    return [f"plan_{name}={getattr(given, name)}" for name in BUDGETS if getattr(given, name)]


def run(given: argparse.Namespace) -> int:
    """Start a run; its exit code with --wait, else 0."""
    check_waiting(given.poll_s)
    if given.version:
        return _run_version(given)
    package = read_package(given.pipeline, given.launched, given.requests, given.platform)
    given.service_account = given.service_account or account_of(given.platform)
    known = definitions(package.spec)
    inputs = with_project(package.name, known, read_inputs(known, given.set, given.params))
    require(known, inputs)
    check_run(package.name, package.version if given.pipeline in PIPELINES else "", package.spec, inputs)
    check_images(package, tags_too=given.allow_tags)
    if given.dry_run:
        return _show_dry(given, package.name, package.version, inputs)
    kubeflow = connect.connect(given)
    version, is_new = ensure_uploaded(kubeflow, package)
    say(f"{package.name}: {'uploaded as' if is_new else 'is there as'} version {version.name}")
    if is_new:
        say(
            "schedules follow what is promoted, never this: `python -m pipelines promote-version "
            f"{package.name} {version.name}`"
            if package.name in our_names()
            else "it is the newest version now: schedules that follow `latest` take it, too"
        )
    return _start(kubeflow, given, package.name, version, inputs)


def start_run(kubeflow: Kubeflow, name: str, experiment: str, version: Any, inputs: dict[str, Any], **more: Any) -> Any:
    """A run of a version: started once, even if the answer gets lost. `more`: service_account, pipeline_root."""
    experiment_id = ensure_experiment(kubeflow, experiment)

    def named() -> Iterator[Any]:
        asked = {"experiment_id": experiment_id, "filter": equals("display_name", name)}
        return pages(kubeflow.client.list_runs, "runs", **asked)

    before = {run.run_id for run in named()}  # a name that a person gives may have been given before
    return created(
        lambda: _quietly(
            kubeflow.client.run_pipeline,
            experiment_id=experiment_id,
            job_name=name,
            params=inputs,
            pipeline_id=version.pipeline_id,
            version_id=version.pipeline_version_id,
            **more,
        ),
        lambda: next((run for run in named() if run.run_id not in before), None),
    )


def ensure_experiment(kubeflow: Kubeflow, name: str) -> str:
    """The id of an experiment, which is made if it is not there."""

    def find() -> Any | None:
        client = kubeflow.client
        return next(
            pages(
                client.list_experiments,
                "experiments",
                filter=equals("display_name", name),
                namespace=kubeflow.namespace or None,
            ),
            None,
        )

    found = find()
    if found is None:
        body = kfp_server_api.V2beta1Experiment(display_name=name, namespace=kubeflow.namespace or None)
        service = kubeflow.client._experiment_api
        try:
            found = created(lambda: service.experiment_service_create_experiment(experiment=body), find)
        except ConflictError:  # somebody else was faster
            found = find()
            if found is None:
                raise
    return str(found.experiment_id)


def account_of(platform: str) -> str:
    """The service account of the tasks that a platform file names, which Kubeflow sets for a run, never for a task."""
    return read_platform(platform).of_runs.get("service_account", "")


def run_name(pipeline: str) -> str:
    """A name that no other run has: how one is found again whose answer got lost."""
    return f"{pipeline} {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} {secrets.token_hex(2)}"


def _run_version(given: argparse.Namespace) -> int:
    """A run of what was uploaded before: its own YAML says which inputs it takes."""
    told = {name: getattr(given, name) for name in ("launched", "requests", "platform", "allow_tags")}
    if flags := chosen(**told):
        raise ConfigError(f"{flags} is for pipelines that are compiled here; --version names one that is compiled")
    if given.pipeline.endswith((".yaml", ".yml")):
        raise ConfigError("--version wants the name of a pipeline, not a file; `python -m pipelines list` has them")
    name = kubeflow_name(given.pipeline)
    kubeflow = connect.connect(given)
    version = find_version(kubeflow, name, given.version)
    known = definitions(version.pipeline_spec or {})
    inputs = with_project(name, known, read_inputs(known, given.set, given.params))
    require(known, inputs)
    check_run(name, str(version.name), version.pipeline_spec or {}, inputs)
    if given.dry_run:
        return _show_dry(given, name, str(version.name), inputs)
    return _start(kubeflow, given, name, version, inputs)


def _start(kubeflow: Kubeflow, given: argparse.Namespace, pipeline: str, version: Any, inputs: dict[str, Any]) -> int:
    more = {"service_account": given.service_account or None, "pipeline_root": given.pipeline_root or None}
    name = given.name or run_name(pipeline)
    started = start_run(kubeflow, name, given.experiment, version, inputs, **more)
    link = kubeflow.link("runs", started.run_id)
    say(f"started run {started.run_id}{link and f': {link}'}")
    say_next(*(kubeflow.command(verb, started.run_id) for verb in ("status", "logs", "cancel")))
    ended, code = started, 0
    if given.wait:
        ended, code = wait_and_tell(kubeflow, started.run_id, poll_s=given.poll_s, patience_s=given.patience_s)
    about = {"pipeline": pipeline, "version": version.name, "experiment": given.experiment}
    row = {**summary(kubeflow, ended or started), **about}
    if ended is None:  # nobody waits any more: how far it is now is not known
        row = {name: value for name, value in row.items() if name not in ("state", "seconds")}
    show(linked(row) if given.output == "table" else row, given.output)
    return code


def _show_dry(given: argparse.Namespace, pipeline: str, version: str, inputs: dict[str, Any]) -> int:
    show(
        {
            "pipeline": pipeline,
            "version": version,
            "experiment": given.experiment,
            "name": given.name or f"{pipeline} TIME",
            "service_account": given.service_account,
            "pipeline_root": given.pipeline_root,
            "inputs": inputs,
        },
        given.output,
    )
    return 0


def _quietly(call: Any, **asked: Any) -> Any:
    """What kfp prints about links is said here in our own words, on stderr."""
    with contextlib.redirect_stdout(None):
        return call(**asked)
