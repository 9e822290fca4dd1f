"""What a pipeline takes as inputs: read from its compiled YAML, checked before anything is sent.

Text stays text: an input of type STRING that is given as 1.10 is 1.10, whatever a reader of numbers would make of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hqclip.deprecated import INPUT, current
from hqclip.errors import ConfigError, NotFoundError
from hqclip.known_secrets import holds_key
from hqclip.settings import did_you_mean
from hqclip.strict_json import read_json
from hqclip.strict_yaml import read_yaml

Definitions = Mapping[str, Mapping[str, Any]]
WANTED = {
    "STRING": "text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a list as JSON",
    "STRUCT": "a mapping as JSON",
}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "NUMBER_INTEGER": (int,),
    "NUMBER_DOUBLE": (int, float),
    "BOOLEAN": (bool,),
    "LIST": (list,),
    "STRUCT": (dict,),
}


def definitions(spec: Mapping[str, Any]) -> Definitions:
    """Inputs of a pipeline by name, as its YAML defines them: parameterType, defaultValue, description, literals."""
    root = spec.get("pipeline_spec", spec).get("root", {})
    found: Definitions = root.get("inputDefinitions", {}).get("parameters", {})
    return found


def read_inputs(known: Definitions, assignments: Sequence[str] = (), params: Path | None = None) -> dict[str, Any]:
    """Values by name: those of the file `params` (YAML or JSON), then those of `INPUT=VALUE`, which win.

    Raises `ConfigError` with all that is wrong.
    """
    problems = [f"--set {assignment}: give INPUT=VALUE" for assignment in assignments if "=" not in assignment]
    inputs = {}
    for said, (text, value) in read_said(assignments, params).items():
        name = current(INPUT, said, known)
        if name not in known:
            several = ", ".join(sorted(known)) or "none"
            problems.append(f"unknown pipeline input {name!r}{did_you_mean(name, known)}; one of {several}")
            continue
        try:
            inputs[name] = typed(name, known[name], text, value)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("; ".join(problems))
    return inputs


def read_said(assignments: Sequence[str] = (), params: Path | None = None) -> dict[str, tuple[str, Any]]:
    """What is said of inputs, by name, before their types are known: what was written, and what that means."""
    given = _read_file(params) if params else {}
    pairs = (assignment.split("=", 1) for assignment in assignments if "=" in assignment)
    return given | {name: (value, meaning(value)) for name, value in pairs}


def missing(known: Definitions, inputs: Mapping[str, Any]) -> list[str]:
    """Inputs that have neither a value nor a default."""
    return [
        name
        for name, told in known.items()
        if inputs.get(name, "") == "" and "defaultValue" not in told and not told.get("isOptional")
    ]


def require(known: Definitions, inputs: Mapping[str, Any]) -> None:
    """Raises `ConfigError` naming every input that has neither a value nor a default."""
    names = missing(known, inputs)
    if names:
        wanted = " ".join(f"--set {name}=..." for name in names)
        raise ConfigError(f"pipeline inputs are missing: give {wanted}, or --params FILE")


def typed(name: str, told: Mapping[str, Any], text: str, value: Any) -> Any:
    """One input as its type asks, out of what was written and what that means in JSON or YAML. Raises `ConfigError`."""
    kind = str(told.get("parameterType", "STRING"))
    if holds_key(text):
        raise ConfigError(
            f"pipeline input {name} has a key or token in it, and who may read runs reads it; give it to the tasks by "
            "secret_env NAME=SECRET/KEY of a platform file"
        )
    if kind == "STRING":
        found: Any = text
    else:
        # true is no number here, though it is one for Python
        if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise ConfigError(f"pipeline input {name} is {text!r}{_fault(kind, text)}; give {WANTED[kind]}")
        found = value
    allowed = told.get("literals")
    if allowed and found not in allowed:
        several = ", ".join(map(str, allowed))
        raise ConfigError(f"pipeline input {name} is {text!r}{did_you_mean(text, map(str, allowed))}; one of {several}")
    return found


def as_given(written: Any, meant: Any) -> dict[str, tuple[str, Any]]:
    """A mapping of YAML, read as text alone and read as what it means; both by name. Raises `ConfigError` for others.

    For a text input null is no text, and a mapping or a list is its JSON.
    """
    if not isinstance(written, dict) or not isinstance(meant, dict):
        raise ConfigError("give a mapping of inputs to values")
    if len(written) != len(meant):
        raise ConfigError(f"some of {', '.join(map(str, written))} are one and the same in YAML; put them in quotes")
    pairs = zip(written.items(), meant.values(), strict=True)
    return {str(name): (_as_text(text, value), value) for (name, text), value in pairs}


def _as_text(text: Any, value: Any) -> str:
    if value is None:
        return ""
    return text if isinstance(text, str) else json.dumps(value, default=str)


def _read_file(path: Path) -> dict[str, tuple[str, Any]]:
    """What a file says of inputs, by name. Raises `ConfigError`, `NotFoundError`."""
    try:
        source = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFoundError(f"--params {path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--params {path}: cannot be read: {error}") from error
    where = f"--params {path}: neither YAML nor JSON"
    written, meant = read_yaml(source, where, as_written=True), read_yaml(source, where)
    try:
        return as_given(written, meant)
    except ConfigError as error:
        raise ConfigError(f"--params {path}: {error}") from error


def meaning(text: str) -> Any:
    """What it says in JSON, None for what is none."""
    try:
        return read_json(text)
    except ValueError:
        return None


def _fault(kind: str, text: str) -> str:
    """What is wrong with the JSON of an input that asks for some; empty for nothing, and for others."""
    try:
        if kind in ("LIST", "STRUCT"):
            read_json(text)
    except ValueError as error:
        return f", which {error}"
    return ""
