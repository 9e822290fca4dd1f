"""`python -m pipelines rollback`: schedules follow again what they followed before the last promotion of a version."""

from __future__ import annotations

import argparse

from hqclip.errors import ConfigError
from pipelines.client import connect, output
from pipelines.client.channels import take_back
from pipelines.client.output import say_next
from pipelines.client.promote_version import tell
from pipelines.client.versions import add_our_pipeline, our_name
from pipelines.lines import STABLE, is_channel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_our_pipeline(parser)
    parser.add_argument(
        "channel", nargs="?", default=STABLE, metavar="CHANNEL", help=f"{STABLE}, or {STABLE}-LINE as `list` has it"
    )
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """Go back by one."""
    name = our_name(given.pipeline)
    if not is_channel(given.channel):
        raise ConfigError(
            f"{given.channel!r} is no channel: give {STABLE} or {STABLE}-LINE; to go to a version of your choice, "
            f"`python -m pipelines promote-version {name} VERSION`"
        )
    kubeflow = connect.connect(given)
    tell(kubeflow, given, take_back(kubeflow, name, given.channel))
    say_next(kubeflow.command("list", name))
    return 0
