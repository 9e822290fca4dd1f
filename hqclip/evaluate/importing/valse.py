"""VALSE's files (`existence.json`, ...): items with `image_file`, `caption`, `foil` and the votes of three people.

Only items count for which two or more of them chose the caption and not the foil (`mturk.caption`), as the authors
ask. The name of the file, VALSE's piece, is the group. Images are in folders named as `dataset` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, field, image_name, objects, text_field
from hqclip.evaluate.importing.sugarcrepe import Item, choice, limited

VOTES = 2


class Valse:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._items = limited(_items(source), source.limit)
        if not self._items:
            raise DataError(f"{source.config.source} has no item with {VOTES} votes (mturk.caption) for its caption")

    def pictures(self) -> Iterator[Picture]:
        """Each once."""
        return named_pictures(self._source, (item.picture for item in self._items), "")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """The caption against the foil."""
        return choice(name, self._items, uids)


def _items(source: Source) -> Iterator[Item]:
    for file in source.documents(".json"):
        where = f"{source.folder}/{file}"
        for key, item in objects(source.json(file), where).items():
            at = f"{where}, item {key}"
            if field(field(item, "mturk", dict, at), "caption", int, f"{at}, mturk") < VOTES:
                continue
            image = f"{image_name(item, 'dataset', at)}/{image_name(item, 'image_file', at)}"
            yield Item(image, text_field(item, "caption", at), text_field(item, "foil", at), file.rpartition(".")[0])
