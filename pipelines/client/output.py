"""Rows in; a table, JSON or YAML on stdout out. Names in JSON and YAML are stable, a table is for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

FORMATS = ("table", "json", "yaml")
WIDEST = 100  # characters of a cell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`-o`, for verbs that show something."""
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="how the result is shown (table)")


def show(rows: Mapping[str, Any] | Sequence[Mapping[str, Any]], output: str = "table") -> None:
    """Print one row, or several, on stdout."""
    if output == "json":
        print(json.dumps(rows, indent=1, default=str))
    elif output == "yaml":
        print(yaml.safe_dump(json.loads(json.dumps(rows, default=str)), sort_keys=False, allow_unicode=True), end="")
    elif isinstance(rows, Mapping):
        width = max((len(name) for name in rows), default=0)
        for name, value in rows.items():
            print(f"{name:{width}}  {_cell(value)}".rstrip())
    elif rows:
        print(table(rows))
    else:
        say("nothing there")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns in the order of the first row."""
    names = list(rows[0])
    lines = [[name.upper() for name in names], *([_short(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def say(text: str) -> None:
    """Progress, warnings and advice go to stderr: stdout has the result alone."""
    print(text, file=sys.stderr, flush=True)


def say_next(*commands: str) -> None:
    """Commands one may want next."""
    say("next:\n" + "\n".join(f"  python -m pipelines {command}" for command in commands))


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def _short(value: Any) -> str:
    text = " ".join(_cell(value).split())
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
