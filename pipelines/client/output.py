"""Rows in; a table, JSON, YAML or names on stdout out. Keys of JSON and YAML are stable, a table is for people."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

FORMATS = ("table", "json", "yaml", "name")
NAMES = ("run_id", "name")  # what a row goes by, if it has one of them; else its first column
WIDTH = 120  # columns of a terminal that all that is for people fits into
NEVER_CUT = (  # what one pastes somewhere else
    *("run_id", "id", "name", "pipeline", "channel"),
    *("task", "job", "link", "page", "next"),
)
NARROWEST = 12  # a column is cut no further than that


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`-o`, for verbs that show something."""
    parser.add_argument(
        "-o",
        "--output",
        choices=FORMATS,
        default="table",
        help="how the result is shown (table); name: the id or name alone",
    )


def show(rows: Mapping[str, Any] | Sequence[Mapping[str, Any]], output: str = "table") -> None:
    """Print one row, or several, on stdout."""
    if output == "json":
        print(json.dumps(rows, indent=1, default=str))
    elif output == "yaml":
        print(yaml.safe_dump(json.loads(json.dumps(rows, default=str)), sort_keys=False, allow_unicode=True), end="")
    elif output == "name":
        for row in [rows] if isinstance(rows, Mapping) else rows:
            print(row[next((name for name in NAMES if name in row), next(iter(row)))])
    elif isinstance(rows, Mapping):
        for name, value in rows.items():
            print(_line(name, _cell(value), max(map(len, rows))))
    elif rows:
        print(table(rows))
    else:
        say("nothing there")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Columns in the order of the first row; texts are cut until a row fits the terminal, names and ids are not."""
    names = list(rows[0])
    lines = [[name.upper() for name in names], *([_one_line(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    may_be_cut = [column for column, name in enumerate(names) if name not in NEVER_CUT]
    while may_be_cut and (over := sum(widths) + 2 * (len(names) - 1) - WIDTH) > 0:
        widest = max(may_be_cut, key=lambda column: widths[column])
        if widths[widest] <= NARROWEST:
            break
        second = max((widths[column] for column in may_be_cut if column != widest), default=0)
        widths[widest] = max(NARROWEST, min(second, widths[widest] - 1), widths[widest] - over)
    return "\n".join(
        "  ".join(_cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def say(text: str) -> None:
    """Progress, warnings and advice go to stderr: stdout has the result alone."""
    print(text, file=sys.stderr, flush=True)


def say_next(*commands: str) -> None:
    """Commands one may want next, each as it can be pasted."""
    say("next:\n" + "\n".join(f"  {command}" for command in commands))


def _line(name: str, text: str, width: int) -> str:
    """One value; a long text goes on below, what one pastes stays in one piece."""
    room = WIDTH - width - 2
    if name in NEVER_CUT or len(text) <= room:
        return f"{name:{width}}  {text}".rstrip()
    pieces = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    return f"\n{'':{width}}  ".join([f"{name:{width}}  {pieces[0]}", *pieces[1:]])


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return json.dumps(value) if isinstance(value, dict | list | bool) else str(value)


def _one_line(value: Any) -> str:
    return " ".join(_cell(value).split())


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
