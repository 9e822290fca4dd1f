"""Pictures with a true and a false caption each in, the set of them out: what several layouts come to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

from hqclip.evaluate.benchmarks.choice import Choice
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, objects


class Item(NamedTuple):
    """A picture, by its key, with a true and a false caption."""

    picture: str
    true: str
    false: str
    group: str


class CaptionPairs(ABC):
    """A layout whose items name whole pictures, which lie in `FOLDER` if nothing else is said."""

    FOLDER: ClassVar[str]

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items = limited(self.items(source), source.limit)

    @staticmethod
    @abstractmethod
    def items(source: Source) -> Iterator[Item]:
        """All of them, as they stand in the files."""

    def pictures(self) -> Iterator[Picture]:
        """Each once, though several items ask about it."""
        return named_pictures(self._source, (item.picture for item in self._items), self.FOLDER)

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """The true caption against the false one."""
        return choice(name, self._items, uids)


def in_files(source: Source) -> Iterator[tuple[str, str, Any]]:
    """Items of all JSON files: the file's name, which is the group; where the item stands, for who complains; it."""
    for file in source.documents(".json"):
        where = f"{source.folder}/{file}"
        for key, item in objects(source.json(file), where).items():
            yield file.rpartition(".")[0], f"{where}, item {key}", item


def limited(items: Iterator[Item], limit: int) -> list[Item]:
    """All of them; with a limit so many, one of each group after the other."""
    found = list(items)
    if not limit:
        return found
    seen: dict[str, int] = {}
    order = []
    for place, item in enumerate(found):
        seen[item.group] = seen.get(item.group, -1) + 1
        order.append((seen[item.group], place))
    return [found[place] for place in sorted(place for _, place in sorted(order)[:limit])]


def choice(name: str, items: list[Item], uids: Mapping[str, str]) -> Choice:
    """The benchmark of the items whose pictures are there."""
    there = [item for item in items if item.picture in uids]
    return Choice(
        name=name,
        uids=tuple(uids[item.picture] for item in there),
        positives=tuple(item.true for item in there),
        negatives=tuple(item.false for item in there),
        groups=tuple(item.group for item in there),
    )
