"""What a task that ended well decided in, the phrase out that a person reads of it in a row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


def phrase(stage: str, decided: Mapping[str, Any]) -> str:
    """Its reason if it gave one, or else its numbers; empty where neither is known, as of an older version."""
    if decided.get("reason"):
        return str(decided["reason"])
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        return _NUMBERS[stage](decided)
    return ""


def _download(decided: Mapping[str, Any]) -> str:
    more = {"refused": sum(decided["faults"].values()), "shards damaged": len(decided["damaged"])}
    told = [f"{decided['rows']:,} rows in {decided['num_shards']:,} shards"]
    return ", ".join([*told, *(f"{number:,} {what}" for what, number in more.items() if number)])


def _annotate(decided: Mapping[str, Any]) -> str:
    return f"{decided['statuses'].get('ok', 0):,} of {decided['rows']:,} rows annotated"


def _curate(decided: Mapping[str, Any]) -> str:
    return f"{decided['usable_rows']:,} of {decided['rows']:,} rows usable"


_NUMBERS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "download": _download,
    "annotate": _annotate,
    "curate": _curate,
    "train": lambda decided: f"model {decided['model']}",
    "evaluate": lambda decided: f"average {decided['average']:.1%}",
}
