"""Keys of a store in, their documents out; what is damaged or gone is None and a sentence, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from hqclip.errors import ConfigError, DataError, NotFoundError
from hqclip.records import Manifest
from hqclip.store import Store
from hqclip.store.documents import finite, read_json

M = TypeVar("M", bound=Manifest)
T = TypeVar("T")
MALFORMED = (ConfigError, AttributeError, KeyError, TypeError, ValueError, IndexError, OverflowError)


class Documents:
    """Reads what a page can do without, and keeps in `problems` what it had to do without."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.problems: list[str] = []

    def manifest(self, key: str, kind: type[M]) -> M | None:
        """The manifest at `key`."""
        return self._read(key, lambda: kind.from_json(self.store.read(key), key))

    def document(self, key: str) -> dict[str, Any]:
        """The JSON object at `key`; an empty one if it cannot be read."""
        return self._read(key, lambda: read_json(self.store, key, "it is left out")) or {}

    def take(self, where: str, reading: Callable[[], T], otherwise: T) -> T:
        """What `reading` makes of documents that were read, or `otherwise` where they hold what they should not."""
        try:
            return reading()
        except MALFORMED as error:
            self.problems.append(f"{where}: damaged ({error!r})")
            return otherwise

    def _read(self, key: str, reading: Callable[[], T]) -> T | None:
        try:
            return reading()
        except (ConfigError, DataError, NotFoundError) as error:  # a key that is none stands in a damaged record
            text = str(error)
            self.problems.append(text if key in text else f"{key}: {text}")
            return None


def whole(value: Any) -> int | None:
    """A count as a document has it; None for anything else."""
    number = finite(value)
    return int(number) if number is not None else None


def counts(value: Any) -> dict[str, int]:
    """Counts by name; what is no count is left out."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(name): number for name, each in items if (number := whole(each)) is not None}


def figures(value: Any) -> dict[str, float]:
    """Numbers by name; what is no number is left out."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(name): number for name, each in items if (number := finite(each)) is not None}
