"""VALSE's files (`existence.json`, ...): items with `image_file`, `caption`, `foil` and the votes of three people.

Only items count for which two or more of them chose the caption and not the foil (`mturk.caption`), as the authors
ask. The name of the file, VALSE's piece, is the group. Images are in folders named as `dataset` says.
"""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.errors import DataError
from hqclip.evaluate.importing.caption_pairs import CaptionPairs, Item, in_files
from hqclip.evaluate.importing.source import Source, field, image_name, text_field

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
        for group, at, item in in_files(source):
            if field(field(item, "mturk", dict, at), "caption", int, f"{at}, mturk") < VOTES:
                continue
            image = f"{image_name(item, 'dataset', at)}/{image_name(item, 'image_file', at)}"
            yield Item(image, text_field(item, "caption", at), text_field(item, "foil", at), group)
