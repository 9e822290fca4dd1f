"""JSON that a person wrote in, plain values out. What a reader of JSON would pass over in silence is refused.

Of a key that is given twice Python keeps the last, and takes NaN and 1e999 for numbers, which JSON does not have. What
is nested more deeply than anything means would end whoever walks through it. Standard library only.
"""

from __future__ import annotations

import json
import math
import sys
from typing import Any

DEEPEST = 100  # levels; the deepest things that are meant, patches of pods, have some fifteen
_TOO_DEEP = f"is nested more than {DEEPEST} deep"


class _Wrong(str):
    """Stands in the place of what is wrong, and says what is: `%s` is where."""


_LOOKED_INTO = (dict, list, _Wrong)


def read_json(text: str | bytes, *, finite: bool = True) -> Any:
    """Its values; with `finite=False` NaN is one, as programs that write JSON have it.

    Raises `ValueError` that goes on from the name of what was read: `has 'priority' twice in [0].patch.spec`.
    """
    numbers: dict[str, Any] = {"parse_constant": _constant, "parse_float": _float} if finite else {}
    try:
        document = json.loads(text, object_pairs_hook=_object, **numbers)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    except json.JSONDecodeError as error:
        where = f"character {error.pos}" if error.lineno == 1 else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"is not valid JSON at {where}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"is no text ({error.reason} at byte {error.start})") from None
    except ValueError:  # of int(): longer ones take it too long
        raise ValueError(f"has a number of more than {sys.get_int_max_str_digits():,} digits") from None
    if is_deep(document):
        raise ValueError(_TOO_DEEP)
    _check(document)
    return document


def is_deep(value: Any) -> bool:
    """Whether lists and objects lie within each other more than `DEEPEST` times, or hold themselves."""
    level = [value]
    for _ in range(DEEPEST):
        inside = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = list({id(one): one for each in inside for one in each if isinstance(one, dict | list)}.values())
        if not level:
            return False
    return True


def _check(document: Any) -> None:
    """Raises `ValueError` for what the hooks below left."""
    left: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while left:
        path, value = left.pop()
        if isinstance(value, _Wrong):
            raise ValueError(value % (f" in {_place(path)}" if path else ""))
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        left += reversed([((*path, key), one) for key, one in inner if isinstance(one, _LOOKED_INTO)])


def _place(path: tuple[str | int, ...]) -> str:
    """`[0].patch.spec`; keys that are no words stand as they would in Python."""
    words = (f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in path)
    return "".join(words).removeprefix(".")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Wrong:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = next(name for name in names if names.count(name) > 1)
    return _Wrong(f"has {twice!r} twice".replace("%", "%%") + "%s")


def _constant(name: str) -> _Wrong:
    return _Wrong(f"has {name}%s, which is no number of JSON")


def _float(text: str) -> float | _Wrong:
    number = float(text)
    return number if math.isfinite(number) else _Wrong(f"has {text[:20]}%s, which is too large a number")
