"""`python -m pipelines promote-version`: a version that was tried becomes what schedules of its line follow."""

from __future__ import annotations

import argparse

from pipelines.client import connect, output
from pipelines.client.channels import Step, package_of, promote
from pipelines.client.connect import Kubeflow
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
    version = find_version(kubeflow, name, given.version)
    check_images(package_of(version), tags_too=given.allow_tags)
    tell(kubeflow, given, promote(kubeflow, name, version))
    return 0


def tell(kubeflow: Kubeflow, given: argparse.Namespace, step: Step) -> None:
    """What is in force now, and how to go back."""
    now = step.version.display_name
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
    say_next(kubeflow.command("list", step.pipeline))
