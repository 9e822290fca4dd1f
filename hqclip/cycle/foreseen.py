"""Settings of stages in, what the stages would refuse of them out: asked before a GPU works for what cannot end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hqclip.annotate.prompt import PROMPTS, check_prompt, load_prompt
from hqclip.cycle.prices import read_prices
from hqclip.errors import ConfigError
from hqclip.settings import did_you_mean
from hqclip.stages import BY_HAND

Values = Mapping[str, Any]


def refused_later(settings: Mapping[str, Values]) -> list[str]:
    """A sentence for each; stages that are not in the settings are not asked about."""
    return [*_by_hand(settings), *_of_prompt(settings.get("annotate", {})), *_of_limits(settings.get("curate", {}))]


def refused_prices(table: Sequence[str]) -> list[str]:
    """What is wrong with prices of GPUs, by which a budget is held."""
    try:
        read_prices(table)
    except ConfigError as error:
        return [str(error)]
    return []


def refused_with_scores(settings: Mapping[str, Values]) -> list[str]:
    """The same of a cycle with a champion, which scores its data."""
    curate, faulty = settings["curate"], settings["annotate"]["max_fault_rate"]
    most = curate["max_drop_rate"]
    if curate["drop_share"] * (1 - faulty) <= most:  # at most these have no description that could be scored
        return []
    return [
        f"curate.drop_share is {curate['drop_share']:g}, so more samples would be dropped than curate.max_drop_rate "
        f"({most:g}) allows, at which `curate` fails; lower it, or allow more"
    ]


def _by_hand(settings: Mapping[str, Values]) -> list[str]:
    problems = []
    for name, why in BY_HAND.items():
        stage, _, setting = name.partition(".")
        if value := settings.get(stage, {}).get(setting):
            problems.append(f"{name} is {value}: {why}")
    return problems


def _of_prompt(annotate: Values) -> list[str]:
    """A prompt that is none; a file that is not here may be on the machines of annotate only."""
    name = str(annotate.get("prompt", "web-1"))
    if name not in PROMPTS and not Path(name).is_file():
        if "/" in name or "." in name:
            return []
        return [f"annotate.prompt is {name!r}: give a file or one of {', '.join(PROMPTS)}{did_you_mean(name, PROMPTS)}"]
    try:
        check_prompt(load_prompt(name, annotate.get("max_tags", 10), annotate.get("max_sentences", 4)))
    except ConfigError as error:
        return [f"annotate.prompt: {error}"]
    except OSError:
        pass  # not ours to read
    return []


def _of_limits(curate: Values) -> list[str]:
    """Limits of rules that there are not."""
    if not curate.get("limits"):
        return []
    from hqclip.curate.rules import limits  # what it imports is not wanted otherwise

    try:
        limits(curate["limits"])
    except ConfigError as error:
        return [f"curate.{line}" for line in str(error).splitlines()]
    return []
