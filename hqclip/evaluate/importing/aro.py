"""ARO's Visual Genome files (`visual_genome_relation.json`, `visual_genome_attribution.json`): a list of items.

An item has `image_path`, a box (`bbox_x`, `bbox_y`, `bbox_w`, `bbox_h`, in pixels), `true_caption` and `false_caption`.
As in the reference the box is cut out and only that is shown; it is kept as PNG, which loses nothing. The group of an
item is its `relation_name`, or its two `attributes` joined by `_`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hqclip.data.images import ImageFault, decode_picture
from hqclip.errors import DataError
from hqclip.evaluate.benchmarks.checks import shown
from hqclip.evaluate.benchmarks.protocol import Benchmark
from hqclip.evaluate.importing.caption_pairs import Item, choice, limited
from hqclip.evaluate.importing.images import named_pictures
from hqclip.evaluate.importing.protocol import Picture
from hqclip.evaluate.importing.source import Source, field, image_name, text_field

BOX = ("bbox_x", "bbox_y", "bbox_w", "bbox_h")
Box = tuple[int, ...]


class _Cut(NamedTuple):
    image: str
    box: Box

    @property
    def key(self) -> str:
        return f"{self.image}#{','.join(map(str, self.box))}"


class Aro:
    """See the head of this file."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._cuts: dict[str, dict[str, _Cut]] = {}  # by image and key
        found = dict(_items(source))
        self._items = limited(iter(found), source.limit)
        for item in self._items:
            cut = found[item]
            self._cuts.setdefault(cut.image, {})[cut.key] = cut

    def pictures(self) -> Iterator[Picture]:
        """Every box once."""
        for image in named_pictures(self._source, self._cuts, "images"):
            for key, cut in self._cuts[image.key].items():
                try:
                    yield Picture(key, _cut_out(image.data, cut.box))
                except (ImageFault, ValueError) as fault:
                    where = f"{self._source.config.source}, image {key}"
                    self._source.leave_out("bad_box", f"{where}: it cannot be cut out ({fault})")

    def benchmark(self, name: str, uids: Mapping[str, str]) -> Benchmark:
        """The true caption against the false one."""
        return choice(name, self._items, uids)


def _items(source: Source) -> Iterator[tuple[Item, _Cut]]:
    for file in source.documents(".json"):
        where = f"{source.folder}/{file}"
        items = source.json(file)
        if not isinstance(items, list):
            raise DataError(f"{where} is {shown(items)}; it must be a list of items; is this the right --layout?")
        for place, item in enumerate(items):
            at = f"{where}, item {place}"
            cut = _Cut(image_name(item, "image_path", at), tuple(field(item, side, int, at) for side in BOX))
            captions = text_field(item, "true_caption", at), text_field(item, "false_caption", at)
            yield Item(cut.key, *captions, _group(item, at)), cut


def _group(item: Any, at: str) -> str:
    if "relation_name" in item:
        return text_field(item, "relation_name", at)
    attributes = field(item, "attributes", list, at)
    if len(attributes) != 2 or not all(isinstance(one, str) and one.strip() for one in attributes):
        raise DataError(f"{at}: attributes is {shown(attributes)}; it must be two texts")
    return "_".join(attributes)


def _cut_out(data: bytes, box: Box) -> bytes:
    """Raises `ImageFault`, or `ValueError` for a box outside of the picture."""
    picture = decode_picture(data)
    left, top, width, height = box
    if left < 0 or top < 0 or width < 1 or height < 1:
        raise ValueError(f"its box is {box}")
    if left + width > picture.width or top + height > picture.height:
        raise ValueError(f"its box {box} goes beyond {picture.width} x {picture.height} pixels")
    buffer = io.BytesIO()
    picture.crop((left, top, left + width, top + height)).save(buffer, "PNG")
    return buffer.getvalue()
