"""SugarCrepe's seven files (`add_att.json`, ...): items by number with `filename`, `caption` and `negative_caption`.

The images are those of COCO's val2017. The name of the file is the group of its items.
"""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.evaluate.importing.caption_pairs import CaptionPairs, Item, in_files
from hqclip.evaluate.importing.source import Source, image_name, text_field


class SugarCrepe(CaptionPairs):
    """See the head of this file."""

    FOLDER = "val2017"

    @staticmethod
    def items(source: Source) -> Iterator[Item]:
        """Of all files."""
        for group, at, item in in_files(source):
            captions = text_field(item, "caption", at), text_field(item, "negative_caption", at)
            yield Item(image_name(item, "filename", at), *captions, group)
