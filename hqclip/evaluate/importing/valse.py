"""VALSE's files (`existence.json`, ...): items with `image_file`, `caption`, `foil` and the votes of three people.

Only items count for which two or more of them chose the caption and not the foil (`mturk.caption`), as the authors
ask. The name of the file, VALSE's piece, is the group. Images are in folders named as `dataset` says.
"""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.errors import DataError
from hqclip.evaluate.importing.caption_pairs import CaptionPairs, Item
from hqclip.evaluate.importing.source import Source, field, image_name, objects, text_field

VOTES = 2


class Valse(CaptionPairs):
    """See the head of this file."""

    FOLDER = ""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        if not self._items:
            raise DataError(f"{source.config.source} has no item with {VOTES} votes (mturk.caption) for its caption")

    @staticmethod
    def items(source: Source) -> Iterator[Item]:
        """Of all files."""
        for file in source.documents(".json"):
            where = f"{source.folder}/{file}"
            for key, item in objects(source.json(file), where).items():
                at = f"{where}, item {key}"
                if field(field(item, "mturk", dict, at), "caption", int, f"{at}, mturk") < VOTES:
                    continue
                image = f"{image_name(item, 'dataset', at)}/{image_name(item, 'image_file', at)}"
                captions = text_field(item, "caption", at), text_field(item, "foil", at)
                yield Item(image, *captions, file.rpartition(".")[0])
