"""Lines of versions: what a pipeline is compiled for; a line's name is in the YAML, and what is promoted has a channel.

Versions of one line stand in for each other; one that launches its stages takes other inputs than one that does not,
and one for another platform other pods.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hqclip.errors import ConfigError
from hqclip.stages import LAUNCHABLE

DEV = "dev"
STABLE = "stable"
LONGEST = 63  # of a channel, which is a tag in Kubeflow, too
_TOLD = re.compile(r" Line: ([a-z0-9-]+)\.$")


def line_name(launched: Collection[str], platform: str, requests: str) -> str:
    """What versions compiled so have in common: `launched-annotate-train-small-on-gke`; empty if nothing is chosen.

    Of a platform it is the file's name, not its content: who edits it stays in the line. It comes last, so that no
    name of a file is taken for another choice. Raises `ConfigError`.
    """
    stages = [stage for stage in LAUNCHABLE if stage in launched]
    file = re.sub(r"[^a-z0-9]+", "-", Path(platform).stem.lower()).strip("-") if platform else ""
    line = "-".join(filter(None, [*(["launched"] if stages else []), *stages, requests, file and f"on-{file}"]))
    if len(channel_of(line)) > LONGEST:
        raise ConfigError(
            f"{channel_of(line)} names a channel, and is longer than {LONGEST}: shorten the name of {platform}"
        )
    return line


def described(about: str, line: str) -> str:
    """The description of a pipeline of this line."""
    return f"{about} Line: {line}." if line else about


def line_of(spec: Mapping[str, Any]) -> str:
    """The line that a compiled pipeline, or a version as Kubeflow has it, says of itself."""
    about = spec.get("pipeline_spec", spec).get("pipelineInfo", {}).get("description", "")
    told = _TOLD.search(str(about))
    return told[1] if told else ""


def launched_in(line: str) -> list[str]:
    """The stages that versions of a line launch."""
    first, *words = line.split("-")
    return list(itertools.takewhile(LAUNCHABLE.__contains__, words)) if first == "launched" else []


def without_line(about: str) -> str:
    """A description of what all lines have in common."""
    return _TOLD.sub("", about)


def channel_of(line: str) -> str:
    """What schedules follow: `stable`, or `stable-LINE`."""
    return f"{STABLE}-{line}" if line else STABLE


def is_channel(version: str) -> bool:
    """Whether this names a channel, and no version."""
    return version == STABLE or version.startswith(f"{STABLE}-")


def split_channel(pipeline: str, ours: Collection[str]) -> tuple[str, str]:
    """The pipeline and the channel that one of Kubeflow's stands for; no channel if it is none of `ours`."""
    for name in ours:
        channel = pipeline.removeprefix(f"{name}-")
        if channel != pipeline and is_channel(channel):
            return name, channel
    return pipeline, ""
