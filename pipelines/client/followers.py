"""Schedules that follow a channel, held against what is in force in it: an input that is no more fails every night."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hqclip.errors import HQClipError
from pipelines.client.connect import Kubeflow
from pipelines.client.inputs import as_given
from pipelines.client.recurring import find_all
from pipelines.client.schedules import checked_inputs


def unfit(kubeflow: Kubeflow, pipeline: str, channel: str) -> Iterator[str]:
    """Of those that are on, each that a run would be refused of, and why."""
    for found in find_all(kubeflow):
        one = found.schedule
        if not one.enabled or (one.pipeline, one.version) != (pipeline, channel):
            continue
        try:
            checked_inputs(kubeflow, replace(one, inputs=as_given(one.inputs, one.inputs)))
        except HQClipError as error:
            yield f"{one.name} ({found.id}): {error}"
