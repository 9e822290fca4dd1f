"""SugarCrepe's seven files (`add_att.json`, ...): items by number with `filename`, `caption` and `negative_caption`.

The images are those of COCO's val2017. The name of the file is the group of its items.
"""

from __future__ import annotations

from collections.abc import Iterator

from hqclip.evaluate.importing.caption_pairs import CaptionPairs, Item
from hqclip.evaluate.importing.source import Source, image_name, objects, text_field


class SugarCrepe(CaptionPairs):
    """See the head of this file."""

    FOLDER = "val2017"

    @staticmethod
    def items(source: Source) -> Iterator[Item]:
        """Of all files."""
        for file in source.documents(".json"):
            where = f"{source.folder}/{file}"
            for key, item in objects(source.json(file), where).items():
                at = f"{where}, item {key}"
                captions = text_field(item, "caption", at), text_field(item, "negative_caption", at)
                yield Item(image_name(item, "filename", at), *captions, file.rpartition(".")[0])
