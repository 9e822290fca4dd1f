"""`python -m pipelines explain`: which task of a run broke first, why, and which command is next."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from pipelines.client import connect, output
from pipelines.client.find import add_run_argument, find_run
from pipelines.client.outcome import outcome
from pipelines.client.output import say, show
from pipelines.client.reasons import Reason, explain
from pipelines.client.tasks import tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the verb."""
    add_run_argument(parser)
    output.add_arguments(parser)
    connect.add_arguments(parser)


def run(given: argparse.Namespace) -> int:
    """The first reason; as JSON and YAML all of them. Nothing to explain is said, too."""
    kubeflow = connect.connect(given)
    told = tell(kubeflow, find_run(kubeflow, given.run))
    reasons = explain(kubeflow, told)
    about = {"run_id": told.run.run_id, "state": told.state, "outcome": outcome(kubeflow, told, reasons)}
    if given.output != "table":
        show({**about, "reasons": [asdict(reason) for reason in reasons]}, given.output)
    else:
        if reasons and told.state != "SUCCEEDED":  # the reason says it better
            del about["outcome"]
        show({**about, **(_row(reasons[0]) if reasons else {})})
        say_others(reasons)
    for source in told.missing:
        say(f"not to be seen: {source}")
    return 0


def say_others(reasons: Sequence[Reason]) -> None:
    """Whatever else broke goes by its name: often it is the same once more."""
    if len(reasons) > 1:
        say(f"also {reasons[1].state}: {', '.join(reason.task for reason in reasons[1:])}")


def _row(reason: Reason) -> dict[str, object]:
    """Beside the state of the run that of the task would be one too many."""
    return {name: value for name, value in asdict(reason).items() if name != "state"}
