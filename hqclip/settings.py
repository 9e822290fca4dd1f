"""What settings are: frozen, with help, defaults and refusals; read from flags, JSON and pipeline inputs.

Whatever is wrong with the settings of a stage is reported at once, together. Standard library only.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, TypeVar, Unpack, get_args, get_origin, get_type_hints

from hqclip.errors import ConfigError
from hqclip.strict_json import read_json

C = TypeVar("C", bound="Settings")
_REQUIRED = object()
MOST_WHOLE, MOST = 2**63 - 1, 1e9  # of numbers without a bound of their own: no machine counts or waits further


class Bounds(TypedDict, total=False):
    """What a number may be: at least `minimum`, more than `above`, at most `maximum`."""

    minimum: float
    above: float
    maximum: float


def setting(
    help: str,
    default: Any = _REQUIRED,
    *,
    choices: Iterable[str] = (),
    why: str = "",
    pairs: bool = False,
    **bounds: Unpack[Bounds],
) -> Any:
    """A field of a `Settings` class with its help and what it accepts; without a default it must be given.

    `why` says what is wrong with values out of its bounds, where that does not go without saying. A list of `pairs` is
    of NAME=value, each name once.
    """
    told = {"help": help, "choices": tuple(choices), "why": why, "pairs": pairs}
    rules = {**told, **dict.fromkeys(Bounds.__annotations__), **bounds}
    if default is _REQUIRED:
        return field(metadata=rules)
    return field(default=default, metadata=rules)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Frozen settings that check themselves. Raises `ConfigError` listing everything that is wrong."""

    def __post_init__(self) -> None:
        problems = [p for f in dataclasses.fields(self) for p in _refusals(f, getattr(self, f.name))]
        problems += self.conflicts()
        if problems:
            raise ConfigError("\n".join(problems))

    def conflicts(self) -> list[str]:
        """What is wrong with the settings taken together, a sentence each."""
        return []

    def check_ranks(self, ranks: int) -> None:
        """Raises `ConfigError` for settings that so many processes, each with its share, cannot follow together."""

    @classmethod
    def from_mapping(cls: type[C], given: Mapping[str, Any], where: str = "") -> C:
        """From flags, JSON or pipeline parameters: text and whole floats become what the field asks for."""
        known = {f.name: f for f in dataclasses.fields(cls)}
        hints = get_type_hints(cls)
        problems, values = [], {}
        for name, value in given.items():
            if name not in known:
                problems.append(f"unknown setting {where}{name}{did_you_mean(name, known)}")
                continue
            try:
                values[name] = _coerce(value, hints[name])
            except ValueError as error:
                problems.append(f"{where}{name} {error}, got {value!r}")
                continue
            problems += [where + problem for problem in _refusals(known[name], values[name])]
        missing = [f.name for f in known.values() if f.default is dataclasses.MISSING and f.name not in given]
        problems += [f"{where}{name} is missing: {known[name].metadata['help']}" for name in missing]
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(**values)

    @classmethod
    def problems_with(cls, name: str, value: Any, where: str = "") -> list[str]:
        """What is wrong with a value of the known setting `name` alone, a sentence each."""
        try:
            known = _coerce(value, get_type_hints(cls)[name])
        except ValueError as error:
            return [f"{where}{name} {error}, got {value!r}"]
        (asked,) = (f for f in dataclasses.fields(cls) if f.name == name)
        return [where + problem for problem in _refusals(asked, known)]

    def to_mapping(self) -> dict[str, Any]:
        """Plain values, as JSON would give them back."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` or nothing."""
    options = list(known)
    close = difflib.get_close_matches(name, options, 1) or difflib.get_close_matches(name.replace("-", "_"), options, 1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _refusals(f: dataclasses.Field[Any], value: Any) -> list[str]:
    if isinstance(value, str):
        return _text_refusals(f, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_refusals(f, value)
    if isinstance(value, tuple):
        if not value and f.default is dataclasses.MISSING:
            return [f"{f.name} is empty: {f.metadata['help']}"]
        return [*(problem for item in value for problem in _refusals(f, item)), *_twice(f, value)]
    return []


def _twice(f: dataclasses.Field[Any], items: Iterable[str]) -> list[str]:
    """Names of pairs that would hide each other."""
    named = Counter(item.partition("=")[0] for item in items) if f.metadata["pairs"] else {}
    return [f"{f.name} names {name!r} twice; give it once" for name, times in named.items() if times > 1]


def _text_refusals(f: dataclasses.Field[Any], value: str) -> list[str]:
    bad = next((c for c in value if ord(c) < 32), None)
    if bad is not None:
        return [f"{f.name} contains a control character (U+{ord(bad):04X})"]
    if "{{" in value:
        return [f"{f.name} is {value!r}: '{{{{' is reserved by Kubeflow templates"]
    if f.default is dataclasses.MISSING and not value.strip():
        return [f"{f.name} is empty: {f.metadata['help']}"]
    if f.metadata["choices"] and value not in f.metadata["choices"]:
        known = f.metadata["choices"]
        return [f"{f.name} is {value!r}: give one of {', '.join(known)}{did_you_mean(value, known)}"]
    return []


def _number_refusals(f: dataclasses.Field[Any], value: float) -> list[str]:
    minimum, maximum, above = (f.metadata[bound] for bound in ("minimum", "maximum", "above"))
    if maximum is None:
        maximum = MOST_WHOLE if isinstance(value, int) else MOST
    why = f": {f.metadata['why']}" if f.metadata["why"] else ""
    if isinstance(value, float) and not math.isfinite(value):
        return [f"{f.name} must be finite, got {value}"]
    if minimum is not None and value < minimum:
        return [f"{f.name} is {value}; give {minimum} or more{why}"]
    if above is not None and value <= above:
        return [f"{f.name} is {value}; give more than {above}{why}"]
    if value > maximum:
        return [f"{f.name} is {value}; give {maximum:,} or less{why}"]
    return []


def _coerce(value: Any, hint: Any) -> Any:
    """The value as `hint` asks, from flag text or JSON; ValueError says what was expected."""
    if get_origin(hint) is tuple:
        return tuple(_coerce(part, get_args(hint)[0]) for part in as_items(value))
    readers = {bool: _truth, int: _whole, float: _number, str: _text}
    return readers[hint](value)


def _truth(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if str(value).lower() not in words:
        raise ValueError("must be true or false")
    return words[str(value).lower()]


def _whole(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    number = _number(value)
    if not number.is_integer():
        raise ValueError("must be a whole number")
    return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)


def _number(value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("must be a number") from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text (a version such as 1.10 needs quotes)")
    return value


def as_items(value: Any) -> list[Any]:
    """A list out of one, of a JSON list, or of text with commas. ValueError says what was expected."""
    if isinstance(value, str) and value.strip().startswith("["):
        value = read_json(value)
    elif isinstance(value, str):
        value = [part.strip() for part in value.split(",") if part.strip()]
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list")
    return list(value)


def read_overrides(text: str) -> dict[str, Any]:
    """Settings by `stage.name` out of JSON. Raises `ConfigError`."""
    try:
        values = read_json(text or "{}")
    except ValueError as error:
        raise ConfigError(f"overrides {error}") from None
    if not isinstance(values, dict):
        raise ConfigError('overrides must be a JSON object such as {"train.learning_rate": 0.001}')
    return values
