"""`python -m pipelines promote-version`: a version that was tried becomes what schedules of its line follow."""

from __future__ import annotations

import argparse

from pipelines.client import connect, output
from pipelines.client.channels import Step, content_name, package_of, promote
from pipelines.client.connect import Kubeflow
from pipelines.client.followers import unfit
from pipelines.client.output import say, say_next, show
from pipelines.client.versions import add_our_pipeline, check_images, find_version, our_name
from pipelines.compiling import add_tags_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_our_pipeline(parser)
    parser.add_argument("version", metavar="VERSION", help="its name or id, or `latest`, the one uploaded last")
    add_tags_argument(parser)
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Put it in force, unless it is; say what was before."""
    name = our_name(given.pipeline)
    kubeflow = connect.connect(given)
    version = find_version(kubeflow, name, content_name(given.version))
    check_images(package_of(version), tags_too=given.allow_tags)
    step = promote(kubeflow, name, version)
    tell(kubeflow, given, step)
    back = [kubeflow.command("rollback", name, step.channel)] if step.is_new and step.before else []
    say_next(kubeflow.command("list", name), *back)
    return 0


def tell(kubeflow: Kubeflow, given: argparse.Namespace, step: Step) -> None:
    """What is in force now, and which schedules that does not fit."""
    now = step.version.name
    if step.is_new:
        before = f" in place of {step.before}" if step.before else ", the first of it"
        say(f"{step.channel} of {step.pipeline} is {now}{before}: who follows it takes it from the next run on")
    else:
        say(f"{step.channel} of {step.pipeline} is {now} already")
    show(
        {
            "pipeline": step.pipeline,
            "channel": step.channel,
            "version": now,
            "before": step.before,
            "new": step.is_new,
            "link": kubeflow.link("pipelines", step.version.pipeline_id, step.version.pipeline_version_id),
        },
        given.output,
    )
    for fault in unfit(kubeflow, step.pipeline, step.channel):
        say(f"warning: this schedule follows it, and its runs would be refused: {fault}")
