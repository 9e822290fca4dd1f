"""What a layout is: it gives the pictures of a set one after the other, and then the benchmark about them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol

from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.source import Source


class Picture(NamedTuple):
    """An image file as it was found; `key` is unlike that of every other picture of the set, whatever they show."""

    key: str
    data: bytes


class Layout(Protocol):
    """One set in the making. Raises `DataError` for what is wrong with it, by file and field.

    An item that cannot be used goes to `Source.leave_out`, which raises unless such items are to be left out.
    """

    def __init__(self, source: Source) -> None: ...

    def pictures(self) -> Iterator[Picture]:
        """Of at most `source.limit` items, where that is not 0; one at a time is held in memory."""
        ...

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """The items whose pictures were all taken, once they were; `uids` has what the suite calls each, by key."""
        ...
