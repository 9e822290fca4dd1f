"""JSON in, what a class declares by its annotations out, or one sentence about the first value that is of another type.

What may be declared: `int`, `float`, `str`, `bool`, `None`, `Any`, unions, `tuple`, `list`, `dict` and `Mapping` of
these, dataclasses and `TypedDict`s. `Annotated[dict[str, Any], Shape]` stays the object that it is, and holds what
`Shape` declares. Standard library only.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

from hqclip.strict_json import is_deep

TOO_DEEP = "nested too deeply"
BEYOND = 2**63  # a whole number that is as large is none of ours, and no fraction can be made of some
T = TypeVar("T")
Reader = Callable[[Any], Any]


class WrongValueError(ValueError):
    """`said` of the value to which the steps of `path` lead, the innermost last."""

    def __init__(self, said: str, path: str = "") -> None:
        super().__init__(f"{path or 'it'} {said}")
        self.said, self.path = said, path

    def within(self, step: str) -> WrongValueError:
        """As told by who holds the value under this step: a name, or `[n]`."""
        dot = "." if self.path and not self.path.startswith("[") else ""
        return WrongValueError(self.said, f"{step}{dot}{self.path}")


def read_as(kind: type[T], value: Any) -> T:
    """A value of JSON as `kind`. Raises `WrongValueError`."""
    return cast(T, _reader(cast(Hashable, kind))(value))


def loads(text: str | bytes) -> Any:
    """As `json.loads`, which says nothing but `JSONDecodeError`: also of text that is none, and of what is too deep."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:  # no UTF-8, or a number of thousands of digits
        raise json.JSONDecodeError(str(error), "", 0) from error
    except RecursionError as error:
        raise json.JSONDecodeError(TOO_DEEP, "", 0) from error
    if is_deep(value):
        raise json.JSONDecodeError(TOO_DEEP, "", 0)
    return value


@cache
def _reader(kind: Any) -> Reader:
    """Made once for each type: documents have many values of one."""
    origin, of = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _checked(_reader(of[1]))
    if origin in (Union, UnionType):
        return _any_of(of)
    if origin is tuple:
        return _list_of(of[0]) if of[1:] == (...,) else _row_of(of)
    if origin is list:
        return _list_of(of[0], list)
    if origin is not None and issubclass(origin, Mapping):
        return _object_of(of[1])
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind)
    return _shape(kind) if is_typeddict(kind) else _PLAIN[kind]


def _any_of(kinds: tuple[Any, ...]) -> Reader:
    """What is wrong is told of the last one that is no None."""
    *others, last = [_reader(kind) for kind in kinds if kind is not NoneType]

    def read(value: Any) -> Any:
        if value is None and NoneType in kinds:
            return None
        for other in others:
            try:
                return other(value)
            except WrongValueError:
                continue
        return last(value)

    return read


def _list_of(kind: Any, made: Callable[[Iterable[Any]], Any] = tuple) -> Reader:
    item = _reader(kind)

    def read(value: Any) -> Any:
        if type(value) is not list:
            raise _wrong(value, "a list")
        return made(_items(value, [item] * len(value)))

    return read


def _row_of(kinds: tuple[Any, ...]) -> Reader:
    readers = [_reader(kind) for kind in kinds]

    def read(value: Any) -> Any:
        if type(value) is not list or len(value) != len(readers):
            raise _wrong(value, f"a list of {len(readers)}")
        return tuple(_items(value, readers))

    return read


def _items(values: list[Any], readers: list[Reader]) -> list[Any]:
    n = 0
    try:
        read = []
        for n, value in enumerate(values):
            read.append(readers[n](value))
        return read
    except WrongValueError as error:
        raise error.within(f"[{n}]") from None


def _object_of(kind: Any) -> Reader:
    item = _reader(kind)
    return lambda value: _values(value, dict.fromkeys(_an_object(value), item))


def _dataclass(kind: Any) -> Reader:
    fields, hints = dataclasses.fields(kind), get_type_hints(kind, include_extras=True)
    readers = {each.name: _reader(hints[each.name]) for each in fields}
    no_default = (dataclasses.MISSING, dataclasses.MISSING)
    required = [each.name for each in fields if (each.default, each.default_factory) == no_default]

    def read(value: Any) -> Any:
        said = _an_object(value)
        if unknown := [name for name in said if name not in readers]:
            raise WrongValueError("is no field that it has", unknown[0])
        return kind(**_values(said, readers, required))

    return read


def _shape(kind: Any) -> Reader:
    """Of what is held under other names, nothing is asked."""
    readers = {name: _reader(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
    required = sorted(kind.__required_keys__)

    def read(value: Any) -> Any:
        said = _an_object(value)
        return {**said, **_values({name: said[name] for name in readers if name in said}, readers, required)}

    return read


def _values(said: dict[str, Any], readers: Mapping[str, Reader], required: Iterable[str] = ()) -> dict[str, Any]:
    for name in required:
        if name not in said:
            raise WrongValueError("is missing", name)
    name = ""
    try:
        read = {}
        for name, value in said.items():
            read[name] = readers[name](value)
        return read
    except WrongValueError as error:
        raise error.within(name) from None


def _checked(reader: Reader) -> Reader:
    def read(value: Any) -> Any:
        reader(value)
        return value

    return read


def _an_object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise _wrong(value, "an object")
    return cast(dict[str, Any], value)


def _whole(value: Any) -> Any:
    if type(value) is not int or abs(value) >= BEYOND:
        raise _wrong(value, "a whole number")
    return value


def _number(value: Any) -> Any:
    """A whole one stays whole."""
    if not (type(value) is float and math.isfinite(value)) and not (type(value) is int and abs(value) < BEYOND):
        raise _wrong(value, "a number")
    return value


def _text(value: Any) -> Any:
    if type(value) is not str:
        raise _wrong(value, "text")
    return value


def _yes_or_no(value: Any) -> Any:
    if type(value) is not bool:
        raise _wrong(value, "true or false")
    return value


_PLAIN: dict[Any, Reader] = {
    int: _whole,
    float: _number,
    str: _text,
    bool: _yes_or_no,
    Any: lambda value: value,
    dict: _an_object,
}
_CALLED = {str: "text", NoneType: "null", bool: "true or false", dict: "an object", float: "a fraction"}


def _wrong(value: Any, wanted: str) -> WrongValueError:
    if type(value) is list:
        found = f"a list of {len(value)}"
    elif type(value) is int:
        found = "a whole number" if abs(value) < BEYOND else "a number beyond all bounds"
    elif type(value) is float and not math.isfinite(value):
        found = "no finite number"
    else:
        found = _CALLED.get(type(value), type(value).__name__)
    return WrongValueError(f"is {found}, where {wanted} belongs")
