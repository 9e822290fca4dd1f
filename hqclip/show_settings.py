"""A project in, all of its settings out: each value, and where it comes from, as a table or JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from hqclip import project
from hqclip.config import ConfigShowConfig
from hqclip.errors import ConfigError
from hqclip.project import Project, Sections, Value
from hqclip.settings import did_you_mean

DEFAULT, UNSET = "default", "not set"


def show(config: ConfigShowConfig, sections: Sections) -> str:
    """The settings of a section, or of all. Raises `ConfigError` for unknown sections and a wrong project file."""
    known = [*sections, project.KFP]
    if config.section and config.section not in known:
        raise ConfigError(f"unknown section {config.section!r}{did_you_mean(config.section, known)}")
    found = project.load(sections)
    rows = [row for row in _rows(found, sections) if config.section in ("", row["setting"].partition(".")[0])]
    if not config.origin:
        rows = [{name: row[name] for name in ("setting", "value")} for row in rows]
    if config.format == "json":
        return json.dumps({"file": str(found.path or ""), "settings": rows}, indent=1)
    return "\n".join([f"project file: {found.path or 'none'}", *_lines(rows)])


def _rows(found: Project, sections: Sections) -> Iterator[dict[str, Any]]:
    for section, names in project.known_names(sections).items():
        kind = sections.get(section)
        for name in names:
            value = found.find(section, name) or _default(kind, name)
            dotted = f"{section}.{name}" if section else name
            yield {"setting": dotted, "value": project.shown(value.value), "origin": value.origin}


def _default(kind: type[Any] | None, name: str) -> Value:
    if kind is not None:
        (field,) = (field for field in dataclasses.fields(kind) if field.name == name)
        if field.default is not dataclasses.MISSING:
            value = list(field.default) if isinstance(field.default, tuple) else field.default
            return Value(value, DEFAULT)
    return Value(None, UNSET)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    cells = [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return value if isinstance(value, str) else json.dumps(value)
