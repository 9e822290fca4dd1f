"""A benchmark in, one with fewer items out."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

B = TypeVar("B")


def spread(benchmark: B, number: int, **columns: int) -> B:
    """At most `number` items, evenly spread over all, since sets are often sorted by class.

    `columns` are the fields with entries for every item, and how many; one that is empty is left so.
    """
    name, entries = next(iter(columns.items()))
    size = len(getattr(benchmark, name)) // entries
    places = [place * size // number for place in range(number)] if number < size else range(size)
    fields: Any = {
        name: tuple(column[place * entries + entry] for place in places for entry in range(entries))
        for name, entries in columns.items()
        if (column := getattr(benchmark, name))
    }
    return dataclasses.replace(benchmark, **fields)  # type: ignore[type-var]
